-- The forecast windows at whose last known point the source reported its motion.
select count(*) as windows_with_reported_motion
from all_windows as windows
inner join shards using (trip_id)
where
    windows.task = 'forecast'
    and not isnan(shards.reported_east_mps[windows.start + windows.num_context])
