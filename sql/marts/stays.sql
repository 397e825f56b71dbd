-- One row per stay: when an entity stayed within the radius of its first point there,
-- and the mean place of its points. Sums of whole nanodegrees depend on no order.
with

staying as (

    select
        points.staypoint_id,
        points.entity_id,
        points.tracked_at,
        anchors.lon_deg as anchor_lon_deg,
        anchors.lat_deg as anchor_lat_deg,
        round(wrapped_lon_deg(points.lon_deg - anchors.lon_deg) * 1e9)::bigint
            as east_ndeg,
        round((points.lat_deg - anchors.lat_deg) * 1e9)::bigint as north_ndeg
    from clean_points as points
    inner join clean_points as anchors on points.staypoint_id = anchors.point_id

),

measured as (

    select
        staypoint_id,
        entity_id,
        anchor_lon_deg,
        anchor_lat_deg,
        min(tracked_at) as started_at,
        count(*) as num_points,
        sum(east_ndeg) / (1e9 * count(*)) as east_deg,
        sum(north_ndeg) / (1e9 * count(*)) as north_deg
    from staying
    group by staypoint_id, entity_id, anchor_lon_deg, anchor_lat_deg

)

select
    measured.staypoint_id,
    measured.entity_id,
    measured.started_at,
    ends.finished_at,
    (epoch_us(ends.finished_at) - epoch_us(measured.started_at)) / 1e6 as duration_s,
    measured.num_points,
    wrapped_lon_deg(measured.anchor_lon_deg + measured.east_deg) as lon_deg,
    measured.anchor_lat_deg + measured.north_deg as lat_deg
from measured
inner join int_stay_ends as ends using (staypoint_id)
order by measured.entity_id, measured.started_at, measured.staypoint_id
