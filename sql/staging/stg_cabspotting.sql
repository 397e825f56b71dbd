-- One row per line of a taxi's file, with the first rule that rejects it, if any does.
with

records_named as (

    -- new_abboip.txt: the taxi abboip
    select
        *,
        regexp_extract(file_name, 'new_([^/]+)\.txt$', 1) as entity_id,
        instant_of_epoch_s(epoch_s) as tracked_at
    from records

)

select
    point_id,
    entity_id,
    cast(null as varchar) as source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    cast(null as double) as altitude_m,
    cast(null as double) as speed_mps,
    cast(null as double) as course_deg,
    cast(null as timestamptz) as received_at,
    occupied = '1' as is_occupied,
    file_id,
    line_number,
    case
        when entity_id = '' then 'no_entity'
        when tracked_at is null or occupied not in ('0', '1') then 'malformed'
        when not (isfinite(lat_deg) and isfinite(lon_deg)) then 'not_finite'
        when
            lat_deg not between -90 and 90
            or lon_deg not between -180 and 180
            then 'out_of_range'
    end as rule
from records_named
