-- One row per line of a trajectory file, with the first rule that rejects it, if any does.
with

files_named as (

    -- 000/Trajectory/20081023025304.plt: the user's folder, and the trip as the source names it
    select
        file_id,
        split_part(name, '/', -3) as entity_id,
        regexp_replace(split_part(name, '/', -1), '\.plt$', '') as source_trip_id
    from files

)

select
    records.point_id,
    files_named.entity_id,
    files_named.source_trip_id,
    records.tracked_at,
    wrapped_lon_deg(records.lon_deg) as lon_deg,
    records.lat_deg,
    -- -777 ft stands for no value. Heights below -1,000 ft and above 33,000 ft are left
    -- as reported: whether a height is credible is for cleaning to say.
    case when isfinite(records.altitude_ft)
        then nullif(records.altitude_ft, -777) * 0.3048
    end as altitude_m,
    cast(null as double) as speed_mps,
    cast(null as double) as course_deg,
    cast(null as timestamptz) as received_at,
    records.file_id,
    records.line_number,
    case
        when not (isfinite(records.lat_deg) and isfinite(records.lon_deg))
            then 'not_finite'
        when records.lat_deg not between -90 and 90
            or records.lon_deg not between -180 and 180
            then 'out_of_range'
    end as rule
from records
inner join files_named on records.file_id = files_named.file_id
