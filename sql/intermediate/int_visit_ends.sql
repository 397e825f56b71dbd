-- One row per stay and split of a bucket: the trips of its first and of its last point
-- there, that last point, and whether the record ends with it, for no point of its
-- entity and split comes soon enough after.
with

followed as (

    select
        points.staypoint_id,
        points.trip_id,
        splits.split,
        points.tracked_at,
        lead(points.tracked_at, 1, 'infinity'::timestamptz) over (
            partition by points.entity_id, splits.split
            order by points.tracked_at, points.point_id
        ) as next_at
    from clean_points as points
    inner join int_point_splits as splits using (point_id)

)

select
    staypoint_id as visit_id,
    split,
    min_by(trip_id, tracked_at) as first_trip_id,
    max_by(trip_id, tracked_at) as last_trip_id,
    max(tracked_at) as last_at,
    max(next_at) > max(tracked_at) + to_microseconds(($max_gap_s * 1e6)::bigint)
        as is_censored
from followed
where staypoint_id is not null
group by staypoint_id, split
order by visit_id, split
