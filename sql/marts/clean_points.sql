-- One row per point that is kept, with its trip, the stay that it is part of, if any,
-- and all that the source says of it.
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
    from int_points_in_force

),

kept as (

    select
        tripped.point_id,
        tripped.entity_id,
        tripped.source_trip_id,
        trips.trip_id,
        tripped.tracked_at,
        tripped.lon_deg,
        tripped.lat_deg
    from int_points_tripped as tripped
    inner join int_trips as trips using (first_point_id)

)

select
    kept.*,
    attributes.* exclude (attributes.point_id),
    coalesce(redated.num_rollovers, 0) as num_rollovers,
    stay_points.staypoint_id,
    -- The mode, where the source labels its points; else there is no such column.
    point_modes.* exclude (point_modes.point_id)
from kept
inner join attributes using (point_id)
left join int_points_redated as redated using (point_id)
left join int_stay_points as stay_points using (point_id)
left join int_point_modes as point_modes using (point_id)
order by kept.entity_id, kept.tracked_at, kept.point_id
