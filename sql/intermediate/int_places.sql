-- One row per kind (point or visit), place and split: how many of them are there.
-- Points are put on a grid first, visits stand at the very place of their location.
with

placed as (

    select
        'point' as kind,
        point_id,
        round(lon_deg * $lines_a_degree) / $lines_a_degree as lon_deg,
        round(lat_deg * $lines_a_degree) / $lines_a_degree as lat_deg
    from clean_points
    union all
    select
        'visit' as kind,
        -- a visit is named by its first point
        visit_id as point_id,
        lon_deg,
        lat_deg
    from visits

)

select
    placed.kind,
    placed.lon_deg,
    placed.lat_deg,
    splits.split,
    count(*) as num_here
from placed
inner join int_point_splits as splits using (point_id)
group by placed.kind, placed.lon_deg, placed.lat_deg, splits.split
order by placed.kind, placed.lon_deg, placed.lat_deg, splits.split
