-- One row per point that breaks no rule of the screen, track by track. A track is all
-- that an entity reports under one trip of the source, in the order of time.
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
order by entity_id, source_trip_id nulls first, tracked_at, point_id
