-- One row per point whose instant is put right. A receiver that counts weeks modulo
-- 1,024 tells an instant 7,168 days too early, or a multiple of that. The cycle is
-- added as often as the fix stays before its upload, and only where it then lies in the
-- three months before it. Without an upload, it is added where a file holds the points
-- of an entity in two runs that are about a cycle apart, and the fix then lies in the
-- later one. What a clock shows before it is set is no wrong week.
with

points as (

    select
        point_id,
        entity_id,
        file_id,
        tracked_at,
        received_at
    from int_points_in_force
    where isfinite(tracked_at) and not is_start_of_count(tracked_at)

),

uploaded as (

    select
        point_id,
        epoch_us(tracked_at) as tracked_us,
        epoch_us(received_at) as received_us,
        (epoch_us(received_at) - epoch_us(tracked_at)) // 619315200000000
            as num_rollovers
    from points
    where
        isfinite(received_at)
        and received_at >= tracked_at + interval 7168 days

),

long_files as (

    select
        entity_id,
        file_id
    from points
    where received_at is null and $first_fix_date is not null
    group by entity_id, file_id
    having max(tracked_at) >= min(tracked_at) + interval 7138 days

),

silences as (

    select
        points.entity_id,
        points.file_id,
        lag(points.tracked_at) over in_time as until_at,
        points.tracked_at as since_at,
        max(points.tracked_at) over (
            partition by points.entity_id, points.file_id
        ) as last_at
    from points
    semi join long_files using (entity_id, file_id)
    window in_time as (
        partition by points.entity_id, points.file_id
        order by points.tracked_at, points.point_id
    )

),

runs as (

    select
        entity_id,
        file_id,
        until_at,
        since_at,
        last_at,
        round((epoch_us(since_at) - epoch_us(until_at)) / 619315200000000)::bigint
            as num_rollovers
    from silences
    where since_at >= until_at + interval 7138 days

),

beside as (

    select
        points.point_id,
        epoch_us(points.tracked_at) as tracked_us,
        runs.num_rollovers,
        epoch_us(runs.since_at - interval 1 day) as first_us,
        epoch_us(runs.last_at + interval 1 day) as last_us
    from points
    inner join runs
        on
            points.entity_id = runs.entity_id
            and points.file_id = runs.file_id
            and points.tracked_at <= runs.until_at

),

counted as (

    select
        point_id,
        num_rollovers,
        tracked_us + num_rollovers * 619315200000000 as moved_us,
        -- Three months in microseconds.
        received_us - 7948800000000 as first_us,
        received_us as last_us
    from uploaded
    union all
    select
        point_id,
        num_rollovers,
        tracked_us + num_rollovers * 619315200000000 as moved_us,
        first_us,
        last_us
    from beside

)

select
    point_id,
    num_rollovers::integer as num_rollovers,
    make_timestamptz(moved_us) as tracked_at
from counted
where moved_us between first_us and last_us
