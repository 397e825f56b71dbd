-- One row per visit: a stay at a location, which is named and placed by the stay that
-- founded it. The travel of a first visit is not known.
with

placed as (

    select
        stays.staypoint_id as visit_id,
        stays.staypoint_id,
        founders.staypoint_id as location_id,
        stays.entity_id,
        stays.started_at as arrived_at,
        stays.finished_at as departed_at,
        lag(stays.finished_at) over entity as left_at,
        founders.lon_deg,
        founders.lat_deg
    from stays
    inner join int_stay_locations as locations using (staypoint_id)
    inner join stays as founders on locations.location_id = founders.staypoint_id
    window entity as (
        partition by stays.entity_id
        order by stays.started_at, stays.staypoint_id
    )

)

select
    visit_id,
    staypoint_id,
    location_id,
    entity_id,
    arrived_at,
    departed_at,
    (epoch_us(departed_at) - epoch_us(arrived_at)) / 1e6 as duration_s,
    (epoch_us(arrived_at) - epoch_us(left_at)) / 1e6 as travel_s,
    lon_deg,
    lat_deg
from placed
order by entity_id, arrived_at, visit_id
