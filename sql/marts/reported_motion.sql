-- One row per forecast window of a bucket at whose last known point the source reported
-- a speed and a course over ground, told from 0 up to 360 degrees. What stands still
-- needs no course.
with

origins as (

    select
        windows.window_id,
        points.point_id
    from windows
    inner join int_points_parted as points
        on
            windows.trip_id = points.trip_id
            and windows.start + windows.num_context - 1 = points.place
    where windows.task = 'forecast'

)

select
    origins.window_id,
    points.speed_mps,
    if(points.speed_mps = 0, 0, points.course_deg % 360)::double as course_deg
from origins
inner join clean_points as points using (point_id)
where
    points.speed_mps >= 0
    and isfinite(points.speed_mps)
    and (points.speed_mps = 0 or points.course_deg between 0 and 360)
order by origins.window_id
