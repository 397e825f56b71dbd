-- One row per trip, whole, in the split that the group of its entity draws.
select
    trips.trip_id,
    case
        when drawn.percentile < $test_percent then 'test'
        when drawn.percentile < $test_percent + $validation_percent
            then 'validation'
        else 'train'
    end as split,
    null::timestamptz as from_at,
    null::timestamptz as until_at
from trips
inner join int_entities_drawn as drawn using (entity_id)
