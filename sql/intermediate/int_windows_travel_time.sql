-- One row per journey, whose travel time is asked: a whole part of a trip, which may
-- hold long steps.
select
    *,
    trip_id || '#' || start as window_name,
    'travel_time' as task,
    'ends' as mask,
    list_transform(
        range(0, num_points), lambda place: place in (0, num_points - 1)
    ) as is_observed
from int_trips_measured
