-- One row per forecast window: its context is observed, its horizon is asked.
select
    *,
    'forecast' as task,
    'horizon' as mask,
    list_transform(
        range(0, num_points), lambda place: place < $num_context
    ) as is_observed
from int_windows_named
