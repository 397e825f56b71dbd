-- The points of each trip stand in the shards once, in the part and the split that
-- their span names, and nothing else does.
with

counted as (

    select
        trip_id,
        count(*) as num_points,
        min(tracked_at) as first_at,
        max(tracked_at) as last_at
    from clean_points
    group by trip_id

),

bounded as (

    select
        part_id,
        trip_id,
        split,
        coalesce(from_at, '-infinity'::timestamptz) as since_at,
        coalesce(until_at, 'infinity'::timestamptz) as until_at
    from split

),

spans as (

    select
        bounded.*,
        counted.num_points,
        bounded.since_at <= counted.first_at and bounded.until_at > counted.last_at
            as is_whole
    from bounded
    inner join counted using (trip_id)

),

cut as (

    select *
    from spans
    where not is_whole

),

spanned as (

    select
        part_id as trip_id,
        split,
        num_points
    from spans
    where is_whole
    union all
    select
        cut.part_id as trip_id,
        cut.split,
        count(*) as num_points
    from clean_points as points
    asof join cut
        on points.trip_id = cut.trip_id and points.tracked_at >= cut.since_at
    where points.tracked_at < cut.until_at
    group by cut.part_id, cut.split

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
