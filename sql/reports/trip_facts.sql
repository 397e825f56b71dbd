-- One row for a trip, none for an unknown one, with the silences of its entity before
-- and after it where it has other trips.
with

trip as (

    select *
    from trips
    where trip_id = $trip_id

)

select
    trip.trip_id,
    trip.entity_id,
    trip.started_at,
    trip.finished_at,
    trip.num_points,
    trip.length_m,
    epoch(
        trip.started_at
        - max(trips.finished_at) filter (where trips.finished_at <= trip.started_at)
    ) as silence_before_s,
    epoch(
        min(trips.started_at) filter (where trips.started_at >= trip.finished_at)
        - trip.finished_at
    ) as silence_after_s
from trip
left join trips
    on trip.entity_id = trips.entity_id and trip.trip_id != trips.trip_id
group by
    trip.trip_id,
    trip.entity_id,
    trip.started_at,
    trip.finished_at,
    trip.num_points,
    trip.length_m
