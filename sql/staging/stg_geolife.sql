-- One row per line of a trajectory file, with the first rule that rejects it, if any.
with

records_named as (

    -- 000/Trajectory/20300101080000.plt: the user's folder, and the source's own trip,
    -- which is the name without its last four letters. To ask for a part counted from
    -- the end takes longer than to make a list of all.
    select
        *,
        string_split(file_name, '/')[-3] as entity_id,
        left(string_split(file_name, '/')[-1], -4) as source_trip_id
    from records

)

select
    point_id,
    entity_id,
    source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    -- -777 ft stands for no value. Heights below -1,000 ft and above 33,000 ft are left
    -- as reported: whether a height is credible is for cleaning to say.
    case
        when isfinite(altitude_ft)
            then nullif(altitude_ft, -777) * 0.3048
    end as altitude_m,
    file_id,
    line_number,
    case
        when tracked_at is null then 'malformed'
        when lat_deg is null or lon_deg is null then 'no_position'
        else place_fault(lon_deg, lat_deg)
    end as rule
from records_named
