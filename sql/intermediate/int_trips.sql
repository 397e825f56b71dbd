-- One row per trip with enough points. Its id tells entity, trip of the source and
-- first instant, which no two trips share; a slash inside a name is written %2F.
with

measured as (

    select
        first_point_id,
        entity_id,
        source_trip_id,
        min(tracked_at) as started_at,
        max(tracked_at) as finished_at,
        count(*) as num_points,
        sum(step_mm) / 1000.0 as length_m
    from int_points_tripped
    group by first_point_id, entity_id, source_trip_id
    having count(*) >= $min_points

),

named as (

    select
        *,
        replace(replace(entity_id, '%', '%25'), '/', '%2F') as entity_name,
        replace(replace(source_trip_id, '%', '%25'), '/', '%2F') as source_trip_name,
        strftime(started_at, '%Y-%m-%dT%H:%M:%S.%fZ') as started_name
    from measured

)

select
    first_point_id,
    concat_ws('/', entity_name, source_trip_name, started_name) as trip_id,
    entity_id,
    source_trip_id,
    started_at,
    finished_at,
    num_points,
    length_m
from named
