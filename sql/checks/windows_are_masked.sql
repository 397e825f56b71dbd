-- A mask tells of each point of its window whether it is observed; some are and some
-- are not, and all of the context is. Where points are missing in between, both ends
-- are there.
select window_id
from all_windows
where not coalesce(
    len(is_observed) = num_points
    and list_count(is_observed) = num_points
    and list_contains(is_observed, false)
    and num_context >= 1
    and not list_contains(is_observed[:num_context], false)
    and (task = 'forecast' or is_observed[-1]),
    false
)
