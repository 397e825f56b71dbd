-- One row per point that is kept, with its trip, the stay that it is part of, if any, and
-- all that the source says of it.
with

attributes as (

    select
        * exclude (
            entity_id,
            source_trip_id,
            tracked_at,
            lon_deg,
            lat_deg,
            file_id,
            line_number
        )
    from int_points_dated

)

select
    kept.* exclude (tracked_us),
    attributes.* exclude (attributes.point_id),
    stay_points.staypoint_id
from int_points_kept as kept
inner join attributes using (point_id)
left join int_stay_points as stay_points using (point_id)
order by kept.entity_id, kept.tracked_at, kept.point_id
