-- One row per point of a track, with the first rule that rejects it, if any.
with

records_typed as (

    select
        file_id,
        line_number,
        point_id,
        whole_number_text(nullif(object_id, '')) as entity_id,
        nullif(track_id, '') as source_trip_id,
        -- UTC, mostly without a mark
        utc_instant(time) as tracked_at,
        trim(lon) = '' or trim(lat) = '' as is_without_place,
        try_cast(lon as double) as lon_deg,
        try_cast(lat as double) as lat_deg,
        concat_ws(',', object_id, time, lon, lat) as raw_text
    from records

)

select
    point_id,
    entity_id,
    source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    file_id,
    line_number,
    raw_text,
    case
        when entity_id is null then 'no_entity'
        -- bytes that are no text: two ships could come to share a name
        when contains(entity_id || coalesce(source_trip_id, ''), chr(65533))
            then 'malformed'
        when is_number_rounded(entity_id) then 'rounded_entity'
        when tracked_at is null then 'malformed'
        when is_without_place then 'no_position'
        when lon_deg is null or lat_deg is null then 'malformed'
        else place_fault(lon_deg, lat_deg)
    end as rule
from records_typed
