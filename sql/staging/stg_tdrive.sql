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
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    file_id,
    line_number,
    case
        when taxi_id = '' then 'no_entity'
        when not regexp_full_match(taxi_id, '\d+') or tracked_at_local is null
            then 'malformed'
        when tracked_at is null then 'no_such_local_time'
        else place_fault(lon_deg, lat_deg)
    end as rule
from records_timed
