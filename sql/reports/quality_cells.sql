-- One row per cell of a grid of degrees in which enough entities have a point.
select
    floor(lon_deg / $size_deg)::integer as east,
    floor(lat_deg / $size_deg)::integer as north,
    count(distinct entity_id) as num_entities
from clean_points
group by east, north
having count(distinct entity_id) >= $min_entities
order by east, north
