-- One row: exact deciles and medians of the training steps, whatever their order.
select
    count(*) as num_steps,
    quantile_disc(steps.step_s, [0.1, 0.5, 0.9]) as step_s,
    quantile_disc(steps.speed_mps, [0.1, 0.5, 0.9]) as speed_mps,
    quantile_disc(steps.step_m, [0.1, 0.5, 0.9]) as step_m
from steps
inner join split using (entity_id)
where split.split = 'train'
