-- One row per tripleg: consecutive points of a trip that have one mode.
with

labelled as (

    select distinct trip_id
    from clean_points
    where mode is not null

),

points as (

    select points.*
    from clean_points as points
    semi join labelled using (trip_id)

),

compared as (

    select
        trip_id,
        entity_id,
        point_id,
        tracked_at,
        lon_deg,
        lat_deg,
        mode,
        lag(point_id) over trip is null
        or coalesce(lag(mode) over trip, '') <> coalesce(mode, '') as is_start,
        haversine_m(
            lag(lon_deg) over trip, lag(lat_deg) over trip, lon_deg, lat_deg
        ) as step_m
    from points
    window trip as (partition by trip_id order by tracked_at, point_id)

),

numbered as (

    select
        *,
        -- Whole millimetres: their sum does not depend on the order of addition.
        if(is_start, 0, round(step_m * 1000))::bigint as step_mm,
        sum(is_start::int) over trip as leg_number
    from compared
    window trip as (partition by trip_id order by tracked_at, point_id)

)

select
    max(point_id) filter (where is_start) as tripleg_id,
    trip_id,
    entity_id,
    mode,
    min(tracked_at) as started_at,
    max(tracked_at) as finished_at,
    count(*) as num_points,
    sum(step_mm) / 1000.0 as length_m
from numbered
where mode is not null
group by trip_id, leg_number, entity_id, mode
order by trip_id, started_at, tripleg_id
