-- One row per point of a trip, in the order of time, with the step that leads to it.
with

points as (

    select *
    from clean_points
    where trip_id = $trip_id

)

select
    points.tracked_at,
    points.lon_deg,
    points.lat_deg,
    steps.step_s,
    steps.speed_mps
from points
left join steps using (point_id)
order by points.tracked_at, points.point_id
