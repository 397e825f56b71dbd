-- One row per stretch of as many points as a window holds, starts a stride apart within
-- one part of a trip, with what it is like. Sums of whole millimetres, microseconds and
-- microradians depend on no order. A step belongs to the stretch that holds both its
-- ends, a turn to the one that holds all three points.
with

held as (

    select
        *,
        unnest(
            range(
                (greatest(place - $window_points + 1, 0) + $stride - 1)
                // $stride
                * $stride,
                place + 1,
                $stride
            )
        )::integer as start
    from int_points_parted

)

select
    trip_id,
    entity_id,
    split,
    start,
    count(*)::integer as num_points,
    max(step_s) filter (where place > start) as longest_step_s,
    quantile_disc(step_s, 0.5) filter (where place > start) as interval_s,
    sum(round(step_m * 1e3)::bigint) filter (where place > start) * 1e3
    / sum(round(step_s * 1e6)::bigint) filter (where place > start) as speed_mps,
    bool_or(is_stay) as has_stop,
    coalesce(
        sum(round(abs(turn_rad) * 1e6)::bigint) filter (where place > start + 1), 0
    ) / 1e6 as turn_rad
from held
group by trip_id, entity_id, split, start
having count(*) = $window_points
