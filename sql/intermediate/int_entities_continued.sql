-- One row per pair of entities of which one goes on under the name of the other: the
-- last point of the first is the first point of the second, by exact instant and place,
-- as of a storm that crosses from one basin into the next.
with

lives as (

    select
        entity_id,
        min(started_at) as started_at,
        max(finished_at) as finished_at
    from trips
    group by entity_id

),

lasts as (

    select
        points.*,
        lives.started_at
    from int_points_shared as points
    inner join lives
        on
            points.entity_id = lives.entity_id
            and points.tracked_at = lives.finished_at

),

firsts as (

    select points.*
    from int_points_shared as points
    inner join lives
        on
            points.entity_id = lives.entity_id
            and points.tracked_at = lives.started_at

)

select
    lasts.entity_id as entity_a_id,
    firsts.entity_id as entity_b_id
from lasts
inner join firsts
    on
        lasts.tracked_at = firsts.tracked_at
        and lasts.lon_deg = firsts.lon_deg
        and lasts.lat_deg = firsts.lat_deg
        and lasts.entity_id != firsts.entity_id
where lasts.started_at < firsts.tracked_at
order by entity_a_id, entity_b_id
