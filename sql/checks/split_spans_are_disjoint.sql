-- Each span is of a trip of its entity, ends after it begins, and overlaps no other; no
-- two parts share an id.
with

ordered as (

    select
        *,
        row_number() over spans as number,
        lag(until_at) over spans as before_until_at,
        count(*) over (partition by part_id) as num_parts
    from split
    window spans as (partition by trip_id order by from_at nulls first)

)

select ordered.part_id
from ordered
left join trips
    on ordered.trip_id = trips.trip_id and ordered.entity_id = trips.entity_id
where not coalesce(
    trips.trip_id is not null
    and ordered.num_parts = 1
    and ordered.split in ('train', 'validation', 'test')
    and (ordered.from_at is null or coalesce(ordered.from_at < ordered.until_at, true))
    and (ordered.number = 1 or ordered.before_until_at <= ordered.from_at),
    false
)
