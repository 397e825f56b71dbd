-- One row per generated point, with the truth about it beside what a receiver reports.
select
    point_id,
    entity_id,
    tracked_at,
    lon_deg,
    lat_deg,
    mode,
    true_lon_deg,
    true_lat_deg,
    is_after_gap,
    is_outlier,
    is_anomaly,
    region_id,
    file_id,
    line_number,
    case
        when not (isfinite(lat_deg) and isfinite(lon_deg)) then 'not_finite'
    end as rule
from records
