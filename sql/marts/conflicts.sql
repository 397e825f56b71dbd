-- One row per run of points in a row that the speed limit rejects, where it has five
-- points or more and at least half as many as are kept between two silences: of two
-- places that an entity reports, the limit alone cannot tell which is right.
with

unreached as (

    select
        tracked.entity_id,
        tracked.source_trip_id
    from int_points_tracked as tracked
    anti join int_points_reached using (point_id)
    group by tracked.entity_id, tracked.source_trip_id
    having count(*) >= 5

),

judged as (

    select
        tracked.point_id,
        tracked.entity_id,
        tracked.source_trip_id,
        tracked.tracked_us,
        reached.point_id is not null as is_kept,
        tracked.tracked_us - lag(tracked.tracked_us) over in_time as elapsed_us
    from int_points_tracked as tracked
    inner join unreached
        on
            tracked.entity_id = unreached.entity_id
            and tracked.source_trip_id is not distinct from unreached.source_trip_id
    left join int_points_reached as reached on tracked.point_id = reached.point_id
    window in_time as (
        partition by tracked.entity_id, tracked.source_trip_id
        order by tracked.tracked_us, tracked.point_id
    )

),

numbered as (

    select
        *,
        sum(if(elapsed_us > $max_gap_s * 1e6, 1, 0)) over until_now as stretch,
        count_if(is_kept) over until_now as num_kept_before
    from judged
    window until_now as (
        partition by entity_id, source_trip_id
        order by tracked_us, point_id
        rows between unbounded preceding and current row
    )

),

stretches as (

    select
        entity_id,
        source_trip_id,
        stretch,
        count_if(is_kept) as num_kept
    from numbered
    group by entity_id, source_trip_id, stretch

),

runs as (

    select
        entity_id,
        source_trip_id,
        stretch,
        make_timestamptz(min(tracked_us)) as started_at,
        make_timestamptz(max(tracked_us)) as finished_at,
        count(*) as num_rejected
    from numbered
    where not is_kept
    group by entity_id, source_trip_id, stretch, num_kept_before

)

select
    runs.entity_id,
    runs.source_trip_id,
    runs.started_at,
    runs.finished_at,
    runs.num_rejected::bigint as num_rejected,
    stretches.num_kept::bigint as num_kept
from runs
inner join stretches
    on
        runs.entity_id = stretches.entity_id
        and runs.source_trip_id is not distinct from stretches.source_trip_id
        and runs.stretch = stretches.stretch
where runs.num_rejected >= 5 and 2 * runs.num_rejected >= stretches.num_kept
order by runs.entity_id, runs.started_at
