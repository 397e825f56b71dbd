-- One row per point that a label speaks of, with its mode.
with

labelled as (

    select
        point_id,
        entity_id,
        tracked_at
    from int_points_in_force
    semi join int_modes using (entity_id)

)

select
    points.point_id,
    modes.mode
from labelled as points
asof inner join int_modes as modes
    on
        points.entity_id = modes.entity_id
        and points.tracked_at >= modes.from_at
where modes.mode is not null
