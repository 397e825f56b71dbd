-- One row per part of a trip of three points or more, whole, with what it is like;
-- measured as windows are. When a journey ends is asked and not where, so that it
-- matters not which of its points a source interpolated.
select
    trip_id,
    entity_id,
    split,
    0::integer as start,
    count(*)::integer as num_points,
    quantile_disc(step_s, 0.5) filter (where place > 0) as interval_s,
    sum(round(step_m * 1e3)::bigint) * 1e3 / sum(round(step_s * 1e6)::bigint)
        as speed_mps,
    bool_or(is_stay) as has_stop,
    null::boolean as is_at_rest,
    sum(round(abs(turn_rad) * 1e6)::bigint) / 1e6 as turn_rad,
    null::bigint[] as places_interpolated
from int_points_parted
group by trip_id, entity_id, split
having count(*) >= 3
