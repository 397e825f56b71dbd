-- One row per trip, whole, in the split that the group of its entity draws.
with

allotted as (

    select
        entity_id,
        case
            when percentile < $test_percent then 'test'
            when percentile < $test_percent + $validation_percent then 'validation'
            else 'train'
        end as split
    from int_entities_drawn

)

select
    trips.trip_id,
    allotted.split,
    null::timestamptz as from_at,
    null::timestamptz as until_at
from trips
inner join allotted using (entity_id)
