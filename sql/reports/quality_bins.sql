-- One row per measure of steps and bin of what is above zero: eight bins to a power of
-- ten.
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
    floor(log10(amount) * 8)::integer as bin,
    count(*) as num_steps
from measured
where amount > 0
group by measure, bin
order by measure, bin
