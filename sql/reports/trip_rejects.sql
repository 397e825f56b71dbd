-- One row per rejected point of an entity between the start and the end of a trip. One
-- that shares an identity is `<identity>#2` or so: its rejects have the identity alone.
with

trip as (

    select
        started_at,
        finished_at,
        [entity_id, regexp_replace(entity_id, '#[0-9]+$', '')] as entity_ids
    from trips
    where trip_id = $trip_id

)

select
    strftime(points.tracked_at, '%Y-%m-%d %H:%M:%S UTC') as instant,
    points.tracked_at,
    points.lon_deg,
    points.lat_deg,
    place_text(points.lon_deg, points.lat_deg) as place,
    clean_rejects.rule
from points
inner join clean_rejects using (point_id)
inner join trip
    on
        list_contains(trip.entity_ids, points.entity_id)
        and points.tracked_at between trip.started_at and trip.finished_at
order by points.tracked_at, points.point_id
