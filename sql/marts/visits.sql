-- One row per visit: a stay at a location, which is named and placed by the stay that
-- founded it.
select
    stays.staypoint_id as visit_id,
    stays.staypoint_id,
    founders.staypoint_id as location_id,
    stays.entity_id,
    stays.started_at as arrived_at,
    stays.finished_at as departed_at,
    founders.lon_deg,
    founders.lat_deg
from stays
inner join int_stay_locations as locations using (staypoint_id)
inner join stays as founders on locations.location_id = founders.staypoint_id
order by stays.entity_id, stays.started_at, stays.staypoint_id
