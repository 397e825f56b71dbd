-- Each window lies inside one part of a trip, in its split; its id is its own.
with

counted as (

    select
        *,
        count(*) over (partition by window_id) as num_windows
    from all_windows

),

sharded as (

    select
        trip_id,
        entity_id,
        split,
        len(t_s) as num_points
    from shards

)

select counted.window_id
from counted
left join sharded
    on
        counted.trip_id = sharded.trip_id
        and counted.entity_id = sharded.entity_id
        and counted.split = sharded.split
where not coalesce(
    counted.num_windows = 1
    and counted.start >= 0
    and counted.start + counted.num_points <= sharded.num_points,
    false
)
