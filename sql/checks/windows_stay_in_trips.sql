-- Each window lies inside one trip of its entity, and no id stands for two windows.
with

counted as (

    select
        *,
        count(*) over (partition by window_id) as num_windows
    from windows

)

select counted.window_id
from counted
left join trips
    on counted.trip_id = trips.trip_id and counted.entity_id = trips.entity_id
where not coalesce(
    counted.num_windows = 1
    and counted.start >= 0
    and counted.start + counted.num_points <= trips.num_points,
    false
)
