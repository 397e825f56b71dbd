-- One row per point: the first rule that it breaks by itself or against points of the
-- same entity and instant, or none. The order of points is that of the source.
with

named as (

    -- Entities that share one identity are told apart, and wrong weeks put right.
    select
        points.point_id,
        if(
            identities.identity is null,
            points.entity_id,
            points.entity_id || '#' || identities.identity
        ) as entity_id,
        points.source_trip_id,
        coalesce(redated.tracked_at, points.tracked_at) as tracked_at,
        points.lon_deg,
        points.lat_deg,
        points.file_id,
        points.line_number,
        points.speed_mps,
        refused.rule as instant_rule
    from int_points_in_force as points
    left join int_points_redated as redated using (point_id)
    left join int_point_identities as identities using (point_id)
    left join int_instants_refused as refused using (point_id)

),

placed as (

    select
        * exclude (instant_rule),
        case
            when instant_rule is not null then instant_rule
            when
                isfinite(tracked_at)
                and lon_deg >= -180 and lon_deg < 180
                and lat_deg between -90 and 90
                then if(lon_deg = 0 and lat_deg = 0, 'null_island', null)
            else 'out_of_range'
        end as rule
    from named

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
    epoch_us(placed.tracked_at) as tracked_us,
    case
        when placed.rule is not null then placed.rule
        when ranked.rank_in_place > 1 then 'exact_duplicate'
        when ranked.rank_in_instant > 1 then 'same_instant'
    end as rule
from placed
left join ranked using (point_id)
