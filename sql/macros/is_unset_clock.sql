-- Whether an instant lies in the hours after a date that clocks show before they are
-- set: the starts of counts, week zero again in 1999, and the turn of the millennium,
-- in UTC or in any zone.
create or replace macro is_unset_clock(instant) as
is_start_of_count(instant)
or timezone('UTC', instant)::date = date '1999-08-22'
or timezone('UTC', instant) between '1999-12-30 10:00:00'::timestamp
and '2000-01-02 14:00:00'::timestamp
