-- One row per stored forecast window of a trip: its place among the trip's points, of
-- which its first `num_context` are known.
with

parts as (

    select
        part_id,
        from_at
    from split
    where trip_id = $trip_id

),

points as (

    select tracked_at
    from clean_points
    where trip_id = $trip_id

),

placed as (

    select
        parts.part_id,
        count(points.tracked_at) as num_earlier
    from parts
    left join points on parts.from_at > points.tracked_at
    group by parts.part_id

)

select
    windows.split,
    placed.num_earlier + windows.start as start,
    windows.num_points,
    windows.num_context
from windows
inner join placed on windows.trip_id = placed.part_id
where windows.task = 'forecast'
order by windows.start
