-- An entity and its copies are seen in train, validation and test in that order, with
-- the purge gap in between.
with

bounded as (

    select
        split.content_group,
        list_position(['train', 'validation', 'test'], shards.split) as number,
        min(epoch_us(shards.started_at)) as first_us,
        max(epoch_us(shards.started_at) + round(shards.t_s[-1] * 1e6)::bigint)
            as last_us
    from shards
    inner join split
        on shards.trip_id = split.part_id and shards.split = split.split
    group by split.content_group, number

),

ordered as (

    select
        *,
        max(last_us) over (
            partition by content_group
            order by number
            rows between unbounded preceding and 1 preceding
        ) as before_us
    from bounded

)

select
    content_group,
    number
from ordered
where first_us - before_us < $purge_gap_s * 1e6
