-- One row per point of a bucket, under the name of what moved: where several
-- entities share one identity, all but the first carry a number behind it.
select
    dated.point_id,
    dated.entity_id
    || if(identities.identity > 1, '#' || identities.identity, '') as entity_id,
    dated.source_trip_id,
    dated.tracked_at,
    dated.lon_deg,
    dated.lat_deg,
    dated.file_id,
    dated.line_number
from int_points_dated as dated
left join int_point_identities as identities using (point_id)
