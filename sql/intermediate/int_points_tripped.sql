-- One row per point that can be reached: the first point of its trip, and the step from
-- the point before it.
select
    tracked.point_id,
    tracked.entity_id,
    tracked.source_trip_id,
    tracked.tracked_at,
    tracked.lon_deg,
    tracked.lat_deg,
    tracked.file_id,
    tracked.line_number,
    reached.first_point_id,
    reached.step_mm
from int_points_tracked as tracked
inner join int_points_reached as reached using (point_id)
