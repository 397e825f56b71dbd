-- One row per step: from a point to the next one of its trip, as seen at its start.
with

paired as (

    select
        point_id,
        entity_id,
        trip_id,
        tracked_at,
        lon_deg,
        lat_deg,
        lag(tracked_at) over trip as from_at,
        lag(lon_deg) over trip as from_lon_deg,
        lag(lat_deg) over trip as from_lat_deg
    from clean_points
    window trip as (partition by trip_id order by tracked_at, point_id)

),

directed as (

    select
        point_id,
        entity_id,
        trip_id,
        tracked_at,
        (epoch_us(tracked_at) - epoch_us(from_at)) / 1e6 as step_s,
        haversine_m(from_lon_deg, from_lat_deg, lon_deg, lat_deg) as step_m,
        azimuth_rad(from_lon_deg, from_lat_deg, lon_deg, lat_deg) as start_rad,
        azimuth_rad(lon_deg, lat_deg, from_lon_deg, from_lat_deg) + pi() as end_rad
    from paired
    where from_at is not null

),

turned as (

    select
        *,
        -- Without a step there is no direction, so nothing has turned.
        if(
            step_m > 0 and lag(step_m) over trip > 0,
            wrapped_rad(start_rad - lag(end_rad) over trip),
            0
        ) as turn_rad
    from directed
    window trip as (partition by trip_id order by tracked_at, point_id)

)

select
    point_id,
    entity_id,
    trip_id,
    tracked_at,
    step_s,
    step_m,
    step_m * sin(start_rad) as step_east_m,
    step_m * cos(start_rad) as step_north_m,
    step_m / step_s as speed_mps,
    turn_rad
from turned
order by entity_id, tracked_at, point_id
