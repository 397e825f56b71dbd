-- One row per point of a bucket, in the order of shards: its own instant and place, and
-- the step that arrives at it, which is zero at the first point of a trip.
select
    (epoch_us(points.tracked_at) - epoch_us(trips.started_at)) / 1e6 as t_s,
    points.lon_deg,
    points.lat_deg,
    points.step_s::float as step_s,
    points.step_east_m::float as step_east_m,
    points.step_north_m::float as step_north_m,
    points.speed_mps::float as speed_mps,
    points.turn_rad::float as turn_rad,
    points.reported_east_mps::float as reported_east_mps,
    points.reported_north_mps::float as reported_north_mps
from int_points_parted as points
inner join shard_trips as trips using (trip_id)
order by trips.trip_number, points.place
