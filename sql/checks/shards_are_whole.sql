-- The lists of a trip are equally long and hold finite numbers only, from 0 seconds on
-- and forward in time.
select trip_id
from shards
where not coalesce(
    t_s[1] = 0
    and t_s = list_sort(t_s) and coalesce(list_min(step_s[2:]) > 0, true)
    -- A list counts its values without NULL; a sum is finite only if each part is.
    and list_count(t_s) = len(t_s) and isfinite(list_sum(t_s))
    and list_count(lon_deg) = len(t_s) and isfinite(list_sum(lon_deg))
    and list_count(lat_deg) = len(t_s) and isfinite(list_sum(lat_deg))
    and list_count(step_s) = len(t_s) and isfinite(list_sum(step_s))
    and list_count(step_east_m) = len(t_s) and isfinite(list_sum(step_east_m))
    and list_count(step_north_m) = len(t_s) and isfinite(list_sum(step_north_m))
    and list_count(speed_mps) = len(t_s) and isfinite(list_sum(speed_mps))
    and list_count(turn_rad) = len(t_s) and isfinite(list_sum(turn_rad)),
    false
)
