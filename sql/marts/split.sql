-- One row per span of a trip that belongs to a split: its points from an instant on
-- (all of them where it is NULL) until another, which is no longer part of it. A trip
-- that is one span keeps its id; of one that is cut, each part gets a number.
with

numbered as (

    select
        trips.trip_id,
        trips.entity_id,
        spans.split,
        spans.from_at,
        spans.until_at,
        (spans.from_at is null or spans.from_at <= trips.started_at)
        and (spans.until_at is null or spans.until_at > trips.finished_at) as is_whole,
        row_number() over (
            partition by trips.trip_id order by spans.from_at nulls first
        ) as number
    from trips
    inner join int_spans as spans using (trip_id)

)

select
    if(
        numbered.is_whole,
        numbered.trip_id,
        numbered.trip_id || '/part-' || numbered.number
    ) as part_id,
    numbered.trip_id,
    numbered.entity_id,
    copies.content_group,
    numbered.split,
    numbered.from_at,
    numbered.until_at
from numbered
inner join int_content_groups as copies using (entity_id)
order by numbered.trip_id, numbered.number
