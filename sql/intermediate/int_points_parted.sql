-- One row per point of a bucket that belongs to a split: its part of a trip, its place
-- within it, and the step that arrives at it. What came before the part is not told:
-- its first point has no step, and the second one no turn. The velocity over ground
-- that the source reports is not a number where it reports none.
with

cut as (

    select
        *,
        coalesce(from_at, '-infinity'::timestamptz) as since_at
    from split
    where part_id != trip_id

),

-- Most sources tell of no point whether it was observed or interpolated.
points as (

    select * from clean_points
    union all by name
    select null::boolean as is_observed
    where false

),

points_of_cut_trips as (

    select points.*
    from points
    semi join cut using (trip_id)

),

spanned as (

    select
        split.part_id,
        split.split,
        points.*
    from points
    inner join split on points.trip_id = split.part_id
    union all
    select
        cut.part_id,
        cut.split,
        points.*
    from points_of_cut_trips as points
    asof join cut
        on points.trip_id = cut.trip_id and points.tracked_at >= cut.since_at
    where cut.until_at is null or points.tracked_at < cut.until_at

),

parted as (

    select
        part_id,
        split,
        point_id,
        entity_id,
        tracked_at,
        lon_deg,
        lat_deg,
        staypoint_id is not null as is_stay,
        is_observed is false as is_interpolated,
        reports_motion(speed_mps, course_deg) as is_reported,
        speed_mps as reported_mps,
        -- What stands still has no course, and needs none.
        coalesce(radians(course_deg), 0) as reported_rad,
        row_number() over (
            partition by part_id order by tracked_at, point_id
        ) - 1 as place
    from spanned

)

select
    parted.part_id as trip_id,
    parted.entity_id,
    parted.split,
    parted.point_id,
    parted.place,
    parted.tracked_at,
    parted.lon_deg,
    parted.lat_deg,
    parted.is_stay,
    parted.is_interpolated,
    if(
        parted.is_reported, parted.reported_mps * sin(parted.reported_rad), 'nan'
    ) as reported_east_mps,
    if(
        parted.is_reported, parted.reported_mps * cos(parted.reported_rad), 'nan'
    ) as reported_north_mps,
    if(parted.place >= 1, steps.step_s, 0) as step_s,
    if(parted.place >= 1, steps.step_m, 0) as step_m,
    if(parted.place >= 1, steps.step_east_m, 0) as step_east_m,
    if(parted.place >= 1, steps.step_north_m, 0) as step_north_m,
    if(parted.place >= 1, steps.speed_mps, 0) as speed_mps,
    if(parted.place >= 2, steps.turn_rad, 0) as turn_rad
from parted
left join steps using (point_id)
