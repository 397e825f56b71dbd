-- One row per point of a bucket, in the order of shards: its own instant and place, and
-- the step that arrives at it, which is zero at the first point of a trip.
select
    (epoch_us(points.tracked_at) - epoch_us(trips.started_at)) / 1e6 as t_s,
    points.lon_deg,
    points.lat_deg,
    coalesce(steps.step_s, 0)::float as step_s,
    coalesce(steps.step_east_m, 0)::float as step_east_m,
    coalesce(steps.step_north_m, 0)::float as step_north_m,
    coalesce(steps.speed_mps, 0)::float as speed_mps,
    coalesce(steps.turn_rad, 0)::float as turn_rad
from clean_points as points
inner join shard_trips as trips using (trip_id)
left join steps using (point_id)
order by trips.trip_number, points.tracked_at, points.point_id
