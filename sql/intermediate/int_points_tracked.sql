-- One row per point that breaks no rule of the screen.
select
    point_id,
    entity_id,
    source_trip_id,
    tracked_at,
    lon_deg,
    lat_deg,
    file_id,
    line_number,
    epoch_us(tracked_at) as tracked_us
from int_points_screened
where rule is null
