-- One row per stored window, with the split that it belongs to.
select
    windows.window_id,
    windows.trip_id,
    windows.entity_id,
    windows.start,
    windows.num_points,
    split.split
from windows
inner join split using (entity_id)
order by windows.window_id
