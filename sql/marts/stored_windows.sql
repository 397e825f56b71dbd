-- One row per window of all buckets, with whether its last known point lies in a region
-- that training knows; windows of train are not asked.
select
    all_windows.*,
    if(cells.cell is null, null, regions.cell is not null) as is_seen
from all_windows
left join window_cells as cells using (window_id)
left join regions on regions.kind = 'point' and cells.cell = regions.cell
order by all_windows.window_id
