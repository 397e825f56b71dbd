-- The points of each trip stand in the shards once, in the part and the split that
-- their span names, and nothing else does.
with

spans as (

    select
        *,
        coalesce(from_at, '-infinity'::timestamptz) as since_at
    from split

),

spanned as (

    select
        spans.part_id as trip_id,
        spans.split,
        count(*) as num_points
    from clean_points as points
    asof join spans
        on points.trip_id = spans.trip_id and points.tracked_at >= spans.since_at
    where spans.until_at is null or points.tracked_at < spans.until_at
    group by spans.part_id, spans.split

),

sharded as (

    select
        trip_id,
        count(*) as num_rows,
        min(split) as split,
        min(len(t_s)) as num_points
    from shards
    group by trip_id

)

select coalesce(spanned.trip_id, sharded.trip_id) as trip_id
from spanned
full outer join sharded on spanned.trip_id = sharded.trip_id
where not coalesce(
    sharded.num_rows = 1
    and sharded.num_points = spanned.num_points
    and sharded.split = spanned.split,
    false
)
