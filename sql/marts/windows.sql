-- One row per stored window: a task, a stretch of one part of a trip, which of its
-- points are observed, and what the stretch is like. A journey, whose travel time is
-- asked, is a whole part and may hold long steps.
with

journeys as (

    select
        *,
        trip_id || '#' || start as window_name,
        'travel_time' as task,
        'ends' as mask,
        list_transform(
            range(0, num_points), lambda place: place in (0, num_points - 1)
        ) as is_observed
    from int_trips_measured
    where list_contains($tasks, 'travel_time')

),

asked as (

    select * exclude (longest_step_s)
    from int_windows_masked
    union all by name
    select * from journeys

),

identified as (

    select
        *,
        md5(
            if(
                task = 'forecast',
                window_name,
                concat_ws('#', window_name, task, mask)
            )
        ) as digest
    from asked

)

select
    (('0x' || left(digest, 16))::ubigint >> 1)::bigint as window_id,
    task,
    trip_id,
    entity_id,
    start,
    num_points,
    split,
    (list_position(is_observed, false) - 1)::integer as num_context,
    mask,
    is_observed,
    interval_s,
    speed_mps,
    has_stop,
    turn_rad,
    start as num_history
from identified
order by window_id
