-- One row per stretch of as many points as a window holds, starts a stride apart within
-- one part of a trip, with what it is like. Sums of whole millimetres, microseconds and
-- microradians depend on no order. A step belongs to the stretch that holds both its
-- ends, a turn to the one that holds all three points. A stretch is at rest if its
-- context, the first $num_context points, keeps within $rest_radius_m of the last one.
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

),

origins as (

    select
        trip_id,
        place,
        place - $num_context + 1 as start,
        lon_deg,
        lat_deg
    from int_points_parted

),

measured as (

    select
        held.trip_id,
        held.entity_id,
        held.split,
        held.start,
        count(*)::integer as num_points,
        max(held.step_s) filter (where held.place > held.start) as longest_step_s,
        sum(round(held.step_s * 1e6)::bigint)
        filter (where held.place > held.start)
        / 1e6 as duration_s,
        quantile_disc(held.step_s, 0.5)
        filter (where held.place > held.start) as interval_s,
        sum(round(held.step_m * 1e3)::bigint)
        filter (where held.place > held.start)
        * 1e3
        / sum(round(held.step_s * 1e6)::bigint)
        filter (where held.place > held.start) as speed_mps,
        bool_or(held.is_stay) as has_stop,
        max(
            haversine_m(held.lon_deg, held.lat_deg, origins.lon_deg, origins.lat_deg)
        ) filter (where held.place <= origins.place) as reach_m,
        coalesce(
            sum(round(abs(held.turn_rad) * 1e6)::bigint)
            filter (where held.place > held.start + 1),
            0
        ) / 1e6 as turn_rad,
        list(held.place - held.start)
        filter (where held.is_interpolated) as places_interpolated
    from held
    inner join origins
        on held.trip_id = origins.trip_id and held.start = origins.start
    group by held.trip_id, held.entity_id, held.split, held.start

)

select
    * exclude (reach_m),
    reach_m <= $rest_radius_m as is_at_rest
from measured
where num_points = $window_points
