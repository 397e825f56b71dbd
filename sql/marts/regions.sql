-- One row per kind (point or visit) and cell that training knows well enough: its id, 1
-- for the most frequent one, and on. Whatever is in none of them has the id 0.
with

counted as (

    select
        places.kind,
        cells.cell,
        sum(places.num_here)::bigint as num_train
    from int_places as places
    inner join int_place_cells as cells using (lon_deg, lat_deg)
    where places.split = 'train'
    group by places.kind, cells.cell

)

select
    kind,
    row_number() over (
        partition by kind order by num_train desc, cell asc
    ) as region_id,
    cell,
    num_train
from counted
where num_train >= $min_count
order by kind, region_id
