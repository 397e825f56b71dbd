-- The origin of a forecast is the last point of its context, and points of shards go
-- forward in time: what is observed after it is a leak.
select window_id
from all_windows
where task = 'forecast' and list_contains(is_observed[num_context + 1:], true)
