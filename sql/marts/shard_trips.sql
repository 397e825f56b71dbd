-- One row per trip of a bucket, numbered in the order of shards.
select
    trips.entity_id,
    trips.trip_id,
    split.split,
    trips.started_at,
    trips.num_points,
    row_number() over (order by split.split, trips.trip_id) as trip_number
from trips
inner join split using (entity_id)
order by trip_number
