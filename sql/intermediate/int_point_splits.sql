-- One row per clean point that belongs to a split: where its trip is cut, the span that
-- its instant is in decides.
select
    points.point_id,
    split.split
from clean_points as points
inner join split using (trip_id)
where
    (split.from_at is null or points.tracked_at >= split.from_at)
    and (split.until_at is null or points.tracked_at < split.until_at)
order by points.point_id
