-- One row per step: from a point to the next one of its trip, as seen at its start.
-- What compares two steps is 0 at the first one of a trip. A step of less than a
-- millimetre stands still: it has no direction, so nothing turns before or after it.
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

compared as (

    select
        *,
        step_m / step_s as speed_mps,
        lag(step_m) over trip as before_m,
        lag(step_s) over trip as before_s,
        lag(end_rad) over trip as before_rad
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
    speed_mps,
    -- From the middle of the step before to the middle of this one.
    coalesce(2 * (speed_mps - before_m / before_s) / (step_s + before_s), 0)
        as acceleration_mps2,
    -- Left is negative, right is positive, as azimuths go.
    if(
        step_m >= 0.001 and before_m >= 0.001, wrapped_rad(start_rad - before_rad), 0
    ) as turn_rad
from compared
order by entity_id, tracked_at, point_id
