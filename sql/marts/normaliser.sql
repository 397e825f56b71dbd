-- One row: exact deciles and median of one measure of the training steps, whatever
-- their order. One measure at a time, for all its values are in memory at once.
with

steps as (

    select
        unnest(step_s[2:])::double as step_s,
        unnest(speed_mps[2:])::double as speed_mps,
        unnest(step_east_m[2:])::double as step_east_m,
        unnest(step_north_m[2:])::double as step_north_m
    from shards
    where split = 'train'

)

select
    count(*) as num_steps,
    quantile_disc(
        case $measure
            when 'step_s' then step_s
            when 'speed_mps' then speed_mps
            when 'step_m' then sqrt(step_east_m ** 2 + step_north_m ** 2)
        end,
        [0.1, 0.5, 0.9]
    ) as deciles
from steps
