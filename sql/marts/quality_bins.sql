-- One row per measure of steps and bin of values above zero: eight bins to a power of ten.
with

measured as (

    select
        'step_s' as measure,
        step_s as value
    from steps
    union all
    select
        'speed_mps' as measure,
        speed_mps as value
    from steps

)

select
    measure,
    floor(log10(value) * 8)::integer as bin,
    count(*) as num_steps
from measured
where value > 0
group by measure, bin
order by measure, bin
