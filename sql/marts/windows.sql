-- One row per window: points of one trip from a start on, starts a stride apart.
with

started as (

    select
        trip_id,
        entity_id,
        unnest(
            range(0, num_points - $num_context - $num_horizon + 1, $stride)
        )::integer as start
    from trips

)

select
    (('0x' || left(md5(trip_id || '#' || start), 16))::ubigint >> 1)::bigint
        as window_id,
    trip_id,
    entity_id,
    start,
    ($num_context + $num_horizon)::integer as num_points
from started
order by window_id
