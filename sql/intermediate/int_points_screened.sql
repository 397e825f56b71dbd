-- One row per point: the first rule that it breaks by itself or against points of the
-- same entity and instant, or none. The order of points is that of the source.
with

placed as (

    select
        point_id,
        entity_id,
        source_trip_id,
        tracked_at,
        lon_deg,
        lat_deg,
        file_id,
        line_number,
        case
            when
                isfinite(tracked_at)
                and lon_deg >= -180 and lon_deg < 180
                and lat_deg between -90 and 90
                then if(lon_deg = 0 and lat_deg = 0, 'null_island', null)
            else 'out_of_range'
        end as rule
    from int_points_identified

),

shared_instants as (

    select
        entity_id,
        tracked_at
    from placed
    where rule is null
    group by entity_id, tracked_at
    having count(*) > 1

),

ranked as (

    select
        placed.point_id,
        row_number() over (
            partition by placed.entity_id, placed.tracked_at
            order by
                placed.source_trip_id nulls first,
                placed.file_id,
                placed.line_number,
                placed.point_id
        ) as rank_in_instant,
        row_number() over (
            partition by
                placed.entity_id,
                placed.tracked_at,
                placed.lon_deg,
                placed.lat_deg
            order by
                placed.source_trip_id nulls first,
                placed.file_id,
                placed.line_number,
                placed.point_id
        ) as rank_in_place
    from placed
    semi join shared_instants using (entity_id, tracked_at)
    where placed.rule is null

)

select
    placed.* exclude (rule),
    case
        when placed.rule is not null then placed.rule
        when ranked.rank_in_place > 1 then 'exact_duplicate'
        when ranked.rank_in_instant > 1 then 'same_instant'
    end as rule
from placed
left join ranked using (point_id)
