-- One row per forecast window of validation or test that repeats what train holds: a
-- run of ten points, at any place of the window and at any time, with the same first
-- place, the same ten places and the same seconds in all. Places are equal within cells
-- of 1e-4 degrees; a run that moves less than four times from cell to cell is passed
-- over.
with

numbered as (

    select
        split,
        trip_id,
        row_number() over (order by trip_id) as trip_number,
        t_s,
        lon_deg,
        lat_deg
    from shards

),

placed as (

    select
        split,
        trip_number,
        unnest(range(len(t_s))) as place,
        round((unnest(lon_deg) + 360) * 1e4)::bigint % 3600000 as east,
        round(unnest(lat_deg) * 1e4)::bigint as north,
        round(unnest(t_s))::bigint as at_s
    from numbered

),

moved as (

    select
        *,
        md5_number_lower(east || ':' || north)::hugeint as cell,
        (
            east != lag(east) over trip or north != lag(north) over trip
        )::integer as has_moved
    from placed
    window trip as (partition by trip_number order by place)

),

runs as (

    select
        split,
        trip_number,
        place,
        cell,
        sum(cell) over run as cells,
        last_value(at_s) over run - at_s as run_s,
        sum(has_moved) over run - coalesce(has_moved, 0) as num_moves,
        count(*) over run as num_points
    from moved
    window run as (
        partition by trip_number
        order by place
        rows between current row and 9 following
    )

),

known as (

    select
        cell,
        cells,
        run_s
    from runs
    where split = 'train' and num_points = 10 and num_moves >= 4

),

asked as (

    select
        windows.window_id,
        windows.split,
        numbered.trip_number,
        unnest(
            range(windows.start, windows.start + windows.num_points - 9, 10)
        ) as place
    from all_windows as windows
    inner join numbered using (trip_id)
    where windows.task = 'forecast' and windows.split != 'train'

),

repeated as (

    select
        asked.window_id,
        asked.split
    from asked
    inner join runs
        on asked.trip_number = runs.trip_number and asked.place = runs.place
    semi join known
        on
            runs.cell = known.cell
            and runs.cells = known.cells
            and runs.run_s = known.run_s
    where runs.num_points = 10 and runs.num_moves >= 4

)

select distinct
    window_id,
    split
from repeated
order by window_id
