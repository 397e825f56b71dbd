-- The points of each trip stand in the shards once, in the part and the split that their
-- span names, and nothing else does.
with

spanned as (

    select
        split.part_id as trip_id,
        split.split,
        count(*) as num_points
    from clean_points as points
    asof join (
        select
            *,
            coalesce(from_at, '-infinity'::timestamptz) as since_at
        from split
    ) as split
        on points.trip_id = split.trip_id and points.tracked_at >= split.since_at
    where split.until_at is null or points.tracked_at < split.until_at
    group by split.part_id, split.split

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
