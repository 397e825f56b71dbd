-- One row per stay that a point of a trip is in, in the order of time.
with

visited as (

    select staypoint_id
    from clean_points
    where trip_id = $trip_id

)

select
    row_number() over (order by stays.started_at, stays.staypoint_id) as number,
    strftime(stays.started_at, '%Y-%m-%d %H:%M:%S UTC') as instant,
    stays.started_at,
    stays.finished_at,
    stays.duration_s,
    stays.lon_deg,
    stays.lat_deg,
    place_text(stays.lon_deg, stays.lat_deg) as place
from stays
semi join visited using (staypoint_id)
order by stays.started_at, stays.staypoint_id
