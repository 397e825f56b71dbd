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
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    occupied = '1' as is_occupied,
    file_id,
    line_number,
    case
        when entity_id = '' then 'no_entity'
        when tracked_at is null or occupied not in ('0', '1') then 'malformed'
        when lat_deg is null or lon_deg is null then 'no_position'
        else place_fault(lon_deg, lat_deg)
    end as rule
from records_named
