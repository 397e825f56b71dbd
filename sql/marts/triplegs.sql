-- One row per tripleg: consecutive points of a trip that have one mode.
with

compared as (

    select
        trip_id,
        entity_id,
        point_id,
        tracked_at,
        lon_deg,
        lat_deg,
        mode,
        point_id = first_value(point_id) over trip
        or coalesce(lag(mode) over trip, '') <> coalesce(mode, '') as is_start,
        haversine_m(
            lag(lon_deg) over trip, lag(lat_deg) over trip, lon_deg, lat_deg
        ) as step_m
    from clean_points
    window trip as (partition by trip_id order by tracked_at, point_id)

),

numbered as (

    select
        *,
        sum(is_start::int) over trip as leg_number
    from compared
    window trip as (partition by trip_id order by tracked_at, point_id)

),

started as (

    select
        *,
        first_value(point_id) over leg as tripleg_id,
        -- Whole millimetres: their sum does not depend on the order of addition.
        if(is_start, 0, round(step_m * 1000))::bigint as step_mm
    from numbered
    window leg as (
        partition by trip_id, leg_number order by tracked_at, point_id
    )

)

select
    tripleg_id,
    trip_id,
    entity_id,
    mode,
    min(tracked_at) as started_at,
    max(tracked_at) as finished_at,
    count(*) as num_points,
    sum(step_mm) / 1000.0 as length_m
from started
where mode is not null
group by tripleg_id, trip_id, entity_id, mode
order by trip_id, started_at, tripleg_id
