-- Each step takes time and has finite parts; each point but a first one has its step.
with

counted as (

    select
        trip_id,
        count(*) as num_steps
    from steps
    group by trip_id

),

broken as (

    select trip_id
    from steps
    where not coalesce(
        step_s > 0
        and isfinite(step_m)
        and isfinite(step_east_m)
        and isfinite(step_north_m)
        and isfinite(speed_mps)
        and isfinite(acceleration_mps2)
        and isfinite(turn_rad),
        false
    )

)

select trip_id from broken
union all
select trips.trip_id
from trips
left join counted using (trip_id)
where counted.num_steps is distinct from trips.num_points - 1
