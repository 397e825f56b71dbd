-- Each region is a cell that train alone counts often enough, and ids go from 1 on.
with

counted as (

    select
        places.kind,
        cells.cell,
        sum(places.num_here) as num_train
    from int_places as places
    inner join int_place_cells as cells using (lon_deg, lat_deg)
    where places.split = 'train'
    group by places.kind, cells.cell

),

numbered as (

    select
        *,
        row_number() over (partition by kind order by region_id, cell) as expected_id
    from regions

),

compared as (

    select
        numbered.*,
        counted.num_train as num_counted
    from numbered
    left join counted
        on numbered.kind = counted.kind and numbered.cell = counted.cell

)

select
    kind,
    region_id
from compared
where not coalesce(
    num_counted >= $min_count
    and num_train = num_counted
    and region_id = expected_id,
    false
)
