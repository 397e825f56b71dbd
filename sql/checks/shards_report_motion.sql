-- What a source reports of motion is a velocity for each point: both components, or
-- not a number in place of both.
select trip_id
from shards
where not coalesce(
    list_count(reported_east_mps) = len(t_s)
    and list_count(reported_north_mps) = len(t_s)
    and not list_bool_or(list_transform(reported_east_mps, lambda mps: isinf(mps)))
    and not list_bool_or(list_transform(reported_north_mps, lambda mps: isinf(mps)))
    and list_transform(reported_east_mps, lambda mps: isnan(mps))
    = list_transform(reported_north_mps, lambda mps: isnan(mps)),
    false
)
