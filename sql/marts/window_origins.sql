-- One row per window of a bucket that is judged: the place of the last point that is
-- known before the first one that is asked, on the grid that regions are found by.
with

gridded as (

    select
        trip_id,
        place,
        round(lon_deg * $lines_a_degree) / $lines_a_degree as lon_deg,
        round(lat_deg * $lines_a_degree) / $lines_a_degree as lat_deg
    from int_points_parted

)

select
    windows.window_id,
    gridded.lon_deg,
    gridded.lat_deg
from windows
inner join gridded
    on
        windows.trip_id = gridded.trip_id
        and windows.start + windows.num_context - 1 = gridded.place
where windows.split != 'train'
order by windows.window_id
