-- One row per point that is kept.
select
    tripped.point_id,
    tripped.entity_id,
    tripped.lon_deg,
    tripped.lat_deg,
    epoch_us(tripped.tracked_at) as tracked_us
from int_points_tripped as tripped
semi join int_trips using (first_point_id)
