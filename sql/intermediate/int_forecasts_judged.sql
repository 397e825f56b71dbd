-- One row per forecast window that a model is judged on.
select
    split,
    trip_id,
    start,
    num_points
from all_windows
where task = 'forecast' and split != 'train'
order by window_id
