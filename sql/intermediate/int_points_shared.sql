-- One row per point whose exact instant and place another entity reports as well.
with

shared_places as (

    select
        tracked_at,
        lon_deg,
        lat_deg
    from clean_points
    group by tracked_at, lon_deg, lat_deg
    having min(entity_id) != max(entity_id)

)

select
    points.entity_id,
    points.trip_id,
    points.tracked_at,
    points.lon_deg,
    points.lat_deg
from clean_points as points
semi join shared_places using (tracked_at, lon_deg, lat_deg)
