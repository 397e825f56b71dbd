-- One row per point that a label speaks of, with its mode.
select
    points.point_id,
    modes.mode
from int_points_in_force as points
asof inner join int_modes as modes
    on
        points.entity_id = modes.entity_id
        and points.tracked_at >= modes.from_at
where modes.mode is not null
