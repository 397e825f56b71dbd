-- One row per stretch without a long step, with its name: all tasks but travel time
-- make windows of it. None is longer than the purge gap, where there is one.
select
    * exclude (longest_step_s, duration_s),
    trip_id || '#' || start as window_name
from int_windows_measured
where
    longest_step_s <= $longest_step_s
    and ($purge_gap_s = 0 or duration_s <= $purge_gap_s)
