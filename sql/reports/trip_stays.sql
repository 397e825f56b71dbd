-- One row per stay that a point of a trip is in, in the order of time.
with

visited as (

    select staypoint_id
    from clean_points
    where trip_id = $trip_id

)

select
    stays.started_at,
    stays.finished_at,
    stays.duration_s,
    stays.lon_deg,
    stays.lat_deg,
    place_text(stays.lon_deg, stays.lat_deg) as place
from stays
semi join visited using (staypoint_id)
order by stays.started_at, stays.staypoint_id
