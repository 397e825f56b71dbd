-- One row per stretch without a long step, with its name: all tasks but travel time
-- make windows of it.
select
    * exclude (longest_step_s),
    trip_id || '#' || start as window_name
from int_windows_measured
where longest_step_s <= coalesce($longest_step_s, 2 * interval_s)
