-- One row per position of a bus, with the first rule that rejects it, if any does.
with

records_timed as (

    select
        *,
        utc_instant(utc_time) as tracked_at
    from records

)

select
    point_id,
    whole_number_text(vehicle_id) as entity_id,
    nullif(journey_id, '') as source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    if(bearing_deg between 0 and 360, bearing_deg % 360, null) as course_deg,
    nullif(route_name, '') as route_name,
    nullif(direction, '') as direction,
    nullif(operator_code, '') as operator_code,
    file_id,
    line_number,
    case
        when vehicle_id = '' then 'no_entity'
        when is_number_rounded(vehicle_id) then 'rounded_entity'
        when tracked_at is null then 'malformed'
        when lat_deg is null or lon_deg is null then 'no_position'
        else place_fault(lon_deg, lat_deg)
    end as rule
from records_timed
