-- One row per visit of a split, in the order of shards. Its region is numbered by
-- the vocabulary, where special ids come first, and placed at the centre of its cell.
-- A stay with which the record of its split ends is censored there. The way to a visit
-- was seen where it lies within one trip; the travel of a first visit is not known.
with

ended as (

    select
        visits.entity_id,
        visits.split,
        visits.visit_number,
        visits.region_id,
        visits.lon_deg as exact_lon_deg,
        visits.lat_deg as exact_lat_deg,
        centres.lon_deg,
        centres.lat_deg,
        ends.is_censored,
        ends.first_trip_id,
        ends.last_trip_id,
        epoch_us(visits.arrived_at) as arrived_us,
        epoch_us(if(ends.is_censored, ends.last_at, visits.departed_at)) as departed_us
    from region_visits as visits
    inner join all_visit_ends as ends using (visit_id, split)
    inner join cell_centres as centres using (cell)

)

select
    entity_id,
    split,
    visit_number,
    arrived_us,
    (departed_us - arrived_us) / 1e6 as duration_s,
    (arrived_us - lag(departed_us) over entity) / 1e6 as travel_s,
    lon_deg,
    lat_deg,
    exact_lon_deg,
    exact_lat_deg,
    is_censored,
    coalesce(
        not lag(is_censored) over entity
        and lag(last_trip_id) over entity = first_trip_id,
        false
    ) as is_way_seen,
    if(region_id > 0, region_id + $num_special - 1, 0)::integer as region_id
from ended
window entity as (partition by entity_id, split order by visit_number)
order by split, entity_id, visit_number
