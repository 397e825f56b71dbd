-- One row per track point, with the first rule that rejects it, if any.
with

records_typed as (

    select
        file_id,
        line_number,
        point_id,
        trip,
        regexp_replace(file_name, '\.gpx$', '', 'i') as entity_id,
        nullif(time, '') as time_text,
        -- A time without a zone is UTC, as the format wants.
        utc_instant(time) as tracked_at,
        trim(lat) = '' or trim(lon) = '' as is_without_place,
        try_cast(lat as double) as lat_deg,
        try_cast(lon as double) as lon_deg,
        try_cast(ele as double) as altitude_m,
        try_cast(speed as double) as speed_mps,
        try_cast(course as double) as course_deg
    from records

)

select
    point_id,
    entity_id,
    -- number of the track in the file, and of the segment in the track
    trip as source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    if(isfinite(altitude_m), altitude_m, null) as altitude_m,
    if(isfinite(speed_mps), speed_mps, null) as speed_mps,
    if(isfinite(course_deg), course_deg, null) as course_deg,
    file_id,
    line_number,
    case
        when is_without_place then 'no_position'
        when lat_deg is null or lon_deg is null then 'malformed'
        when place_fault(lon_deg, lat_deg) is not null
            then place_fault(lon_deg, lat_deg)
        when time_text is null then 'no_time'
        when tracked_at is null then 'malformed_time'
    end as rule
from records_typed
