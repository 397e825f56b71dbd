-- One row per entity and split: its visits as lists, in the order of time.
select
    entity_id,
    split,
    list(region_id order by visit_number) as region_id,
    list(arrived_us order by visit_number) as arrived_us,
    list(duration_s order by visit_number) as duration_s,
    list(travel_s order by visit_number) as travel_s,
    list(lon_deg order by visit_number) as lon_deg,
    list(lat_deg order by visit_number) as lat_deg,
    list(exact_lon_deg order by visit_number) as exact_lon_deg,
    list(exact_lat_deg order by visit_number) as exact_lat_deg,
    list(is_censored order by visit_number) as is_censored,
    list(is_way_seen order by visit_number) as is_way_seen
from shard_visits
group by entity_id, split
order by split, entity_id
