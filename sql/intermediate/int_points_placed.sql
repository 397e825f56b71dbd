-- One row per point with an instant and a place on Earth, track by track, in the order
-- of time. A track is all that one identity reports under one trip of the source.
with

dated as (

    select
        points.point_id,
        points.entity_id,
        points.source_trip_id,
        points.lon_deg,
        points.lat_deg,
        coalesce(redated.tracked_at, points.tracked_at) as tracked_at
    from int_points_in_force as points
    left join int_points_redated as redated using (point_id)
    anti join int_instants_refused using (point_id)

),

placed as (

    select
        *,
        row_number() over track as number_in_track
    from dated
    where
        isfinite(tracked_at)
        and lon_deg >= -180 and lon_deg < 180
        and lat_deg between -90 and 90
        and not (lon_deg = 0 and lat_deg = 0)
    window track as (
        partition by entity_id, source_trip_id order by tracked_at, point_id
    )

)

select
    point_id,
    lon_deg,
    lat_deg,
    epoch_us(tracked_at) as tracked_us,
    number_in_track = 1 as is_track_start
from placed
order by entity_id, source_trip_id nulls first, tracked_at, point_id
