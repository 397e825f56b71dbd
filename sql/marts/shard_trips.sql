-- One row per part of a trip in a bucket, numbered in the order of shards.
select
    entity_id,
    trip_id,
    split,
    min(tracked_at) as started_at,
    count(*) as num_points,
    row_number() over (order by split, trip_id) as trip_number
from int_points_parted
group by entity_id, trip_id, split
order by trip_number
