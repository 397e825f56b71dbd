-- One row per trip: from when to when, how many points, and metres along them.
select
    trip_id,
    entity_id,
    source_trip_id,
    started_at,
    finished_at,
    num_points,
    length_m
from int_trips
order by trip_id
