-- One row per point that a label speaks of, with its mode.
with

labelled as (

    select
        points.point_id,
        points.entity_id,
        points.tracked_at
    from int_points_in_force as points
    semi join int_modes using (entity_id)

)

select
    labelled.point_id,
    modes.mode
from labelled
asof inner join int_modes as modes
    on
        labelled.entity_id = modes.entity_id
        and labelled.tracked_at >= modes.from_at
where modes.mode is not null
