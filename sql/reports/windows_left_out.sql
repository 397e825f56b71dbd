-- One row: the stretches that are no forecast window, in number and as a share of all,
-- for a long step in them or a point asked that the source interpolated.
with

counted as (

    select
        (select count(*) from all_stretches) as num_stretches,
        (select count(*) from all_named) as num_named,
        (
            select count(*) from all_windows
            where task = 'forecast'
        ) as num_judged

)

select
    num_stretches - num_named as windows_with_long_steps,
    round((num_stretches - num_named) / greatest(num_stretches, 1), 4)
        as windows_with_long_steps_share,
    num_named - num_judged as windows_with_interpolated_points,
    round((num_named - num_judged) / greatest(num_stretches, 1), 4)
        as windows_with_interpolated_points_share
from counted
