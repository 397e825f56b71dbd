-- Each entity that has a trip is in one split, and all copies of it are there too.
with

named as (

    select
        entity_id,
        count(*) as num_splits
    from split
    group by entity_id

),

moving as (

    select distinct entity_id from trips

),

misplaced as (

    select coalesce(moving.entity_id, named.entity_id) as offender
    from moving
    full outer join named on moving.entity_id = named.entity_id
    where
        moving.entity_id is null
        or named.num_splits is distinct from 1

),

torn as (

    select content_group as offender
    from split
    group by content_group
    having count(distinct split) > 1

)

select offender from misplaced
union all
select offender from torn
