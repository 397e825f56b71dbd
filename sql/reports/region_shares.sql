-- One row per kind and split: how many points or visits there are, how many are in no
-- region that has an id, and how many are in a cell where training never was.
with

placed as (

    select
        places.kind,
        places.split,
        places.num_here,
        cells.cell
    from int_places as places
    inner join int_place_cells as cells using (lon_deg, lat_deg)

),

trained as (

    select distinct
        kind,
        cell
    from placed
    where split = 'train'

)

select
    placed.kind,
    placed.split,
    sum(placed.num_here)::bigint as num_here,
    coalesce(sum(placed.num_here) filter (where regions.cell is null), 0)::bigint
        as num_unknown,
    coalesce(sum(placed.num_here) filter (where trained.cell is null), 0)::bigint
        as num_unseen
from placed
left join regions on placed.kind = regions.kind and placed.cell = regions.cell
left join trained on placed.kind = trained.kind and placed.cell = trained.cell
group by placed.kind, placed.split
order by placed.kind, placed.split
