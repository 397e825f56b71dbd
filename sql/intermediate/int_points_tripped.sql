-- One row per point that can be reached: the first point of its trip, and the step from
-- the point before it. A silence longer than the gap starts a trip; midnight does not.
with

reached as (

    select tracked.*
    from int_points_tracked as tracked
    semi join int_points_reached using (point_id)

),

paired as (

    select
        *,
        lag(tracked_us) over track as previous_us,
        haversine_m(
            lag(lon_deg) over track, lag(lat_deg) over track, lon_deg, lat_deg
        ) as step_m
    from reached
    window track as (
        partition by entity_id, source_trip_id order by tracked_at, point_id
    )

),

started as (

    select
        *,
        previous_us is null
        or tracked_us - previous_us > $max_gap_s * 1e6 as is_trip_start
    from paired

),

-- To look back for the last start instead would take the square of a trip's length.
numbered as (

    select
        *,
        sum(is_trip_start::int) over track as trip_number
    from started
    window track as (
        partition by entity_id, source_trip_id order by tracked_at, point_id
    )

)

select
    point_id,
    entity_id,
    source_trip_id,
    tracked_at,
    lon_deg,
    lat_deg,
    file_id,
    line_number,
    first_value(point_id) over trip as first_point_id,
    -- Whole millimetres: their sum does not depend on the order of addition.
    if(is_trip_start, 0, round(step_m * 1000))::bigint as step_mm
from numbered
window trip as (
    partition by entity_id, source_trip_id, trip_number
    order by tracked_at, point_id
)
