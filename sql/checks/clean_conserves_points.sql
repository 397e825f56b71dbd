-- Each point is kept once or rejected once, and nothing else is.
with

outcomes as (

    select point_id from clean_points
    union all
    select point_id from clean_rejects

),

counted as (

    select
        point_id,
        0 as num_points,
        1 as num_outcomes
    from outcomes
    union all
    select
        point_id,
        1 as num_points,
        0 as num_outcomes
    from int_points_in_force

)

select
    point_id,
    sum(num_points) as num_points,
    sum(num_outcomes) as num_outcomes
from counted
group by point_id
having sum(num_points) != 1 or sum(num_outcomes) != 1
