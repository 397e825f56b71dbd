-- One row per line of a taxi's file, with the first rule that rejects it, if any does.
with

records_timed as (

    select
        *,
        clock_time(local_time) as tracked_at_local,
        instant_of_local(clock_time(local_time), $zone) as tracked_at
    from records

)

select
    point_id,
    taxi_id as entity_id,
    cast(null as varchar) as source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    cast(null as double) as altitude_m,
    cast(null as double) as speed_mps,
    cast(null as double) as course_deg,
    cast(null as timestamptz) as received_at,
    file_id,
    line_number,
    case
        when taxi_id = '' then 'no_entity'
        when not regexp_full_match(taxi_id, '\d+') or tracked_at_local is null
            then 'malformed'
        when tracked_at is null then 'no_such_local_time'
        when not (isfinite(lat_deg) and isfinite(lon_deg)) then 'not_finite'
        when
            lat_deg not between -90 and 90
            or lon_deg not between -180 and 180
            then 'out_of_range'
    end as rule
from records_timed
