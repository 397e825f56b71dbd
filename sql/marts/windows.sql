-- One row per stored window of a task: a stretch of one part of a trip, which of its
-- points are observed, and what the stretch is like. Nothing that a source interpolated
-- is asked, for it is no truth.
with

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
    from int_windows_masked

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
    is_at_rest,
    turn_rad,
    start as num_history
from identified
where
    not list_contains(
        list_transform(
            coalesce(places_interpolated, []), lambda place: is_observed[place + 1]
        ),
        false
    )
order by window_id
