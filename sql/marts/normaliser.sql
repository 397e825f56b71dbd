-- One row: exact deciles and medians of the training steps, whatever their order.
with

steps as (

    select
        unnest(step_s[2:]) as step_s,
        unnest(speed_mps[2:]) as speed_mps,
        unnest(step_east_m[2:]) as step_east_m,
        unnest(step_north_m[2:]) as step_north_m
    from shards
    where split = 'train'

)

select
    count(*) as num_steps,
    quantile_disc(step_s::double, [0.1, 0.5, 0.9]) as step_s,
    quantile_disc(speed_mps::double, [0.1, 0.5, 0.9]) as speed_mps,
    quantile_disc(
        sqrt(step_east_m::double ** 2 + step_north_m::double ** 2), [0.1, 0.5, 0.9]
    ) as step_m
from steps
