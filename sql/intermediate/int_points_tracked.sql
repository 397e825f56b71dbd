-- One row per point that breaks no rule of the screen and whose place is no old one.
select
    screened.point_id,
    screened.entity_id,
    screened.source_trip_id,
    screened.tracked_at,
    screened.lon_deg,
    screened.lat_deg,
    screened.file_id,
    screened.line_number,
    screened.tracked_us
from int_points_screened as screened
anti join int_points_stale using (point_id)
where screened.rule is null
