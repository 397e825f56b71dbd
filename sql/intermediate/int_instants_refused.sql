-- One row per point whose instant cannot be, after wrong weeks are put right: it is
-- what a clock shows that was never set, it is from before satellites could tell a
-- place, or it is later than its own upload. Around the turn of the millennium a clock
-- was set if the entity has other points within 30 days.
with

dated as (

    select
        points.point_id,
        points.entity_id,
        coalesce(redated.tracked_at, points.tracked_at) as tracked_at,
        points.received_at
    from int_points_in_force as points
    left join int_points_redated as redated using (point_id)
    where isfinite(points.tracked_at)

),

unset as (

    select
        point_id,
        entity_id,
        tracked_at
    from dated
    where is_unset_clock(tracked_at) and $first_fix_date is not null

),

set_around as (

    select distinct unset.point_id
    from unset
    inner join dated
        on
            unset.entity_id = dated.entity_id
            and dated.tracked_at between unset.tracked_at - interval 30 day
            and unset.tracked_at + interval 30 day
            and not is_unset_clock(dated.tracked_at)
    where not is_start_of_count(unset.tracked_at)

),

limits as (

    select $first_fix_date::timestamptz as first_fix_at

),

ruled as (

    select
        dated.point_id,
        case
            when unset.point_id is not null and set_around.point_id is null
                then 'unset_clock'
            when dated.tracked_at < limits.first_fix_at
                then 'before_satellites'
            when dated.tracked_at > dated.received_at + interval 1 minute
                then 'later_than_upload'
        end as rule
    from dated
    cross join limits
    left join unset using (point_id)
    left join set_around using (point_id)

)

select
    point_id,
    rule
from ruled
where rule is not null
