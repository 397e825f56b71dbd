-- One row per vertex of a trip's list, and one per list without any, with the first
-- rule that rejects it, if any does.
with

records_timed as (

    -- The list has no times: its vertices are 15 s apart.
    select
        *,
        whole_number_text(taxi_id) as entity_id,
        instant_of_epoch_s(started_s + 15 * vertex_number) as tracked_at
    from records

),

records_ruled as (

    select
        *,
        case
            when polyline = '[]' then 'empty_list'
            when taxi_id in ('', 'NA') then 'no_entity'
            when is_number_rounded(taxi_id) then 'rounded_entity'
            when trip_id in ('', 'NA') or tracked_at is null then 'malformed'
            when missing_data not in ('True', 'False') then 'malformed'
            -- Where fixes are missing, the place in the list does not tell the time.
            when missing_data = 'True' then 'missing_data'
        end as trip_rule,
        case
            when lat_deg is null or lon_deg is null then 'malformed'
            else place_fault(lon_deg, lat_deg)
        end as vertex_rule
    from records_timed

)

select
    point_id,
    entity_id,
    trip_id as source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    nullif(nullif(call_type, ''), 'NA') as call_type,
    nullif(nullif(origin_stand, ''), 'NA') as origin_stand,
    -- The trips of test.csv are cut off at some instant on their way.
    regexp_matches(file_name, 'test[^/]*$') as is_truncated,
    file_id,
    line_number,
    coalesce(trip_rule, vertex_rule) as rule,
    if(
        trip_rule is null and vertex_rule is not null and num_vertices > 0,
        '[' || trim(split_part(polyline, '],[', vertex_number + 1), '[]') || ']',
        null
    ) as raw_text
from records_ruled
