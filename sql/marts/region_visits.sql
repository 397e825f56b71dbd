-- One row per visit, numbered from 0 within its entity and split, with the cell that
-- its location is in and the region that training knows it as, 0 if it does not.
select
    visits.*,
    splits.split,
    row_number() over (
        partition by visits.entity_id, splits.split
        order by visits.arrived_at, visits.visit_id
    ) - 1 as visit_number,
    cells.cell,
    coalesce(regions.region_id, 0) as region_id
from visits
-- a visit is named by its first point
inner join int_point_splits as splits on visits.visit_id = splits.point_id
inner join int_place_cells as cells using (lon_deg, lat_deg)
left join regions on cells.cell = regions.cell and regions.kind = 'visit'
order by visits.entity_id, splits.split, visit_number
