-- Each visit of a split is in the shards once, at its place in the order of time; none
-- lasts longer there than it did, or into the next one; there are no others.
with

told as (

    select
        entity_id,
        split,
        unnest(range(len(arrived_us))) as visit_number,
        unnest(arrived_us) as arrived_us,
        unnest(duration_s) * 1e6 as duration_us
    from visit_shards

),

followed as (

    select
        *,
        arrived_us + duration_us <= coalesce(
            lead(arrived_us) over (
                partition by entity_id, split order by visit_number
            ),
            'infinity'::double
        ) as is_over
    from told

)

select
    entity_id,
    split,
    visit_number
from followed
full outer join region_visits as visits using (entity_id, split, visit_number)
where not coalesce(
    followed.is_over
    and followed.arrived_us = epoch_us(visits.arrived_at)
    and followed.duration_us >= 0
    and followed.arrived_us + followed.duration_us <= epoch_us(visits.departed_at),
    false
)
