-- One row per stored forecast window of a trip: its place among the trip's points, of
-- which its first `num_context` are known.
with

parts as (

    select
        split.part_id,
        (
            select count(*)
            from clean_points
            where
                clean_points.trip_id = $trip_id
                and clean_points.tracked_at < split.from_at
        ) as num_earlier
    from split
    where split.trip_id = $trip_id

)

select
    windows.split,
    parts.num_earlier + windows.start as start,
    windows.num_points,
    windows.num_context
from windows
inner join parts on windows.trip_id = parts.part_id
where windows.task = 'forecast'
order by start
