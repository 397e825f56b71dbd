-- One row per position report, with the first rule that rejects it, if any does.
with

records_named as (

    select
        * exclude (mmsi),
        whole_number_text(trim(mmsi)) as mmsi
    from records

),

records_typed as (

    select
        *,
        -- An MMSI has nine digits; tables made of numbers lose the zeros in front.
        if(
            regexp_full_match(mmsi, '\d{1,9}') and mmsi not similar to '0+',
            lpad(mmsi, 9, '0'),
            null
        ) as entity_id,
        utc_instant(utc_time) as tracked_at,
        -- Tenths of a degree in 12 bits, read as if signed: 204.8 became -204.8.
        round(if(cog_deg < 0, cog_deg + 409.6, cog_deg), 1) as cog_unsigned_deg
    from records_named

)

select
    point_id,
    entity_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    -- 102.3 kn stands for no value. One international knot is 1,852 m an hour.
    if(sog_kn >= 0 and sog_kn < 102.3, sog_kn * 1852.0 / 3600.0, null) as speed_mps,
    -- 360 stands for no value; so does -49.6, which is 360 after the wrap.
    if(cog_unsigned_deg >= 0 and cog_unsigned_deg < 360, cog_unsigned_deg, null)
        as course_deg,
    -- 511 stands for no value.
    if(heading_deg >= 0 and heading_deg < 360, heading_deg, null) as heading_deg,
    nullif(trim(vessel_name), '') as vessel_name,
    nullif(nullif(trim(imo), ''), 'IMO0000000') as imo,
    if(vessel_type between 0 and 9999, cast(vessel_type as integer), null)
        as vessel_type,
    if(status between 0 and 15, cast(status as integer), null) as navigation_status,
    nullif(trim(transceiver_class), '') as transceiver_class,
    file_id,
    line_number,
    case
        when is_number_rounded(mmsi) then 'rounded_entity'
        when entity_id is null then 'no_entity'
        when tracked_at is null then 'malformed'
        when lat_deg is null or lon_deg is null then 'no_position'
        else place_fault(lon_deg, lat_deg)
    end as rule
from records_typed
