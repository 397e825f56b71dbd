-- One row per stored window of visits, as the loader reads windows of any kind: all of
-- its visits but the last are observed, and that one is asked for.
select
    visit_window_id as window_id,
    'next_visit' as task,
    entity_id,
    split,
    'last' as mask,
    start,
    num_visits as num_points,
    num_visits - 1 as num_context,
    list_append(list_resize([]::boolean[], num_visits - 1, true), false)
        as is_observed
from visit_windows
order by window_id
