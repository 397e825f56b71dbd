-- One row per line of a taxi's file, with the first rule that rejects it, if any does.
with

records_named as (

    select
        * exclude (taxi_id),
        whole_number_text(taxi_id) as taxi_id,
        iso_text(trim(local_time)) as time_text
    from records

),

records_spelt as (

    select
        *,
        time_has_offset(time_text, 'iso', '') as is_offset_told,
        if(contains(time_text, ':'), try_cast(time_text as timestamp), null)
            as tracked_at_local
    from records_named

),

records_timed as (

    select
        *,
        if(
            is_offset_told,
            utc_instant(time_text),
            instant_of_local(tracked_at_local, $zone)
        ) as tracked_at
    from records_spelt

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
        when is_number_rounded(taxi_id) then 'rounded_entity'
        when not regexp_full_match(taxi_id, '\d+') or tracked_at_local is null
            then 'malformed'
        when tracked_at is null then 'no_such_local_time'
        when lon_deg is null or lat_deg is null then 'no_position'
        else place_fault(lon_deg, lat_deg)
    end as rule
from records_timed
