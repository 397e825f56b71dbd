-- One row per rejected point of an entity between the start and the end of a trip. One
-- that shares an identity is `<identity>#2` or so: its rejects have the identity alone.
with

rejected as (

    select
        points.point_id,
        points.entity_id,
        points.tracked_at,
        points.lon_deg,
        points.lat_deg,
        clean_rejects.rule
    from points
    inner join clean_rejects using (point_id)

)

select
    point_id,
    tracked_at,
    lon_deg,
    lat_deg,
    rule
from rejected
where
    entity_id in ($entity_id, regexp_replace($entity_id, '#[0-9]+$', ''))
    and tracked_at between $started_at and $finished_at
order by tracked_at, point_id
