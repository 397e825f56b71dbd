-- One row per record of a storm, with the first rule that rejects it, if any does.
with

records_typed as (

    select
        file_id,
        line_number,
        point_id,
        storm_id as entity_id,
        nullif(record_identifier, '') as record_identifier,
        nullif(status, '') as status,
        case
            when regexp_full_match(date, '\d{8}') and regexp_full_match(time, '\d{4}')
                then try_strptime(date || time, '%Y%m%d%H%M')
        end as tracked_at_utc,
        trim(lat) = '' or trim(lon) = '' as is_without_place,
        case
            when regexp_full_match(lat, '\d{1,3}(\.\d+)?[NS]')
                then
                    cast(left(lat, -1) as double)
                    * case right(lat, 1) when 'S' then -1 else 1 end
        end as lat_deg,
        case
            when regexp_full_match(lon, '\d{1,3}(\.\d+)?[EW]')
                then
                    cast(left(lon, -1) as double)
                    * case right(lon, 1) when 'W' then -1 else 1 end
        end as lon_deg,
        case
            when regexp_full_match(wind_kn, '-?\d{1,4}')
                then cast(wind_kn as double)
        end as wind_kn,
        case
            when regexp_full_match(pressure_hpa, '-?\d{1,4}')
                then cast(pressure_hpa as double)
        end as pressure_hpa
    from records

)

select
    point_id,
    entity_id,
    timezone('UTC', tracked_at_utc) as tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    record_identifier,
    status,
    -- One international knot is 1,852 m an hour; -99 and -999 stand for no value.
    nullif(nullif(wind_kn, -99), -999) * 1852.0 / 3600.0 as wind_mps,
    nullif(pressure_hpa, -999) as pressure_hpa,
    file_id,
    line_number,
    case
        when entity_id is null then 'no_storm'
        when
            tracked_at_utc is null or wind_kn is null or pressure_hpa is null
            then 'malformed'
        when is_without_place then 'no_position'
        when lat_deg is null or lon_deg is null then 'malformed'
        else place_fault(lon_deg, lat_deg, west_deg := -360, east_deg := 360)
    end as rule
from records_typed
