-- One row per day and sensor of an iceberg, with the first rule that rejects it.
with

records_dated as (

    select
        file_id,
        line_number,
        point_id,
        sensor,
        regexp_extract(file_name, '([^/]*)\.csv$', 1) as entity_id,
        -- 1996063 is the 63rd day of 1996. Year 2301 is a slip of the pen.
        case
            when
                regexp_full_match(date, '(19|20)\d{5}')
                and right(date, 3) between '001' and '366'
                then
                    make_date(cast(left(date, 4) as int), 1, 1)
                    + (cast(right(date, 3) as int) - 1)
        end as tracked_on,
        date,
        trim(lat) = '' or trim(lon) = '' as is_without_place,
        try_cast(lat as double) as lat_deg,
        try_cast(lon as double) as lon_deg,
        case observed when '1' then true when '0' then false end as is_observed,
        -- One nautical mile is 1,852 m; 0 stands for an unknown size.
        nullif(try_cast(size_1 as double), 0) * 1852.0 as length_m,
        nullif(try_cast(size_2 as double), 0) * 1852.0 as width_m
    from records

)

select
    point_id,
    entity_id,
    timezone('UTC', cast(tracked_on as timestamp)) as tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    sensor,
    is_observed,
    length_m,
    width_m,
    file_id,
    line_number,
    case
        when
            tracked_on is null or year(tracked_on) <> cast(left(date, 4) as int)
            then 'malformed_date'
        when is_without_place or (lat_deg = 0 and lon_deg = 0) then 'no_position'
        when lat_deg is null or lon_deg is null then 'malformed'
        else place_fault(lon_deg, lat_deg, west_deg := -360, east_deg := 360)
    end as rule
from records_dated
