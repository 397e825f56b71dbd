-- The origin of a forecast is the last point of the context that was asked for, and
-- points of shards go forward in time: what is observed after it is a leak.
select window_id
from all_windows
where
    task = 'forecast'
    and (
        num_context != $num_context
        or list_contains(is_observed[$num_context + 1:], true)
    )
