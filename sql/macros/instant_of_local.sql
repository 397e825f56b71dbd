-- The instant of a time on the clocks of a zone. NULL for one that the clocks leap
-- over in spring; of one that they show twice in autumn the second, in standard time.
create or replace macro instant_of_local(local_time, zone) as
case
    when timezone(zone, timezone(zone, local_time)) = local_time
        then timezone(zone, local_time)
end
