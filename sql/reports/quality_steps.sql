-- One row per measure of the steps of clean trips, with exact quantiles: no order of
-- the rows changes them.
with

measured as (

    select
        'step_s' as measure,
        step_s as amount
    from steps
    union all
    select
        'speed_mps' as measure,
        speed_mps as amount
    from steps

)

select
    measure,
    count(*) as num_steps,
    min(amount) as p0,
    quantile_disc(amount, 0.05) as p5,
    quantile_disc(amount, 0.25) as p25,
    quantile_disc(amount, 0.5) as p50,
    quantile_disc(amount, 0.75) as p75,
    quantile_disc(amount, 0.95) as p95,
    quantile_disc(amount, 0.99) as p99,
    max(amount) as p100
from measured
group by measure
order by measure
