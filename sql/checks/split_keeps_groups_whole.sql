-- Each trip is in one split whole, and all trips of an entity and its copies in the
-- same.
with

spanned as (

    select
        trip_id,
        count(*) as num_spans,
        count(*) filter (where part_id != trip_id) as num_parts
    from split
    group by trip_id

),

torn as (

    select content_group
    from split
    group by content_group
    having count(distinct split) > 1

)

select coalesce(trips.trip_id, spanned.trip_id) as offender
from trips
full outer join spanned on trips.trip_id = spanned.trip_id
where
    trips.trip_id is null
    or spanned.num_spans is distinct from 1
    or spanned.num_parts != 0
union all
select content_group as offender
from torn
