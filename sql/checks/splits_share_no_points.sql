-- No entity is at one instant in two splits.
with

divided as (

    select entity_id
    from shards
    group by entity_id
    having count(distinct split) > 1

),

instants as (

    select
        shards.entity_id,
        shards.split,
        epoch_us(shards.started_at) + round(unnest(shards.t_s) * 1e6)::bigint
            as tracked_us
    from shards
    semi join divided using (entity_id)

)

select
    entity_id,
    tracked_us
from instants
group by entity_id, tracked_us
having count(distinct split) > 1
