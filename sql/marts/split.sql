-- One row per entity: the group of its copies, and the split that the group falls into
-- by its own name and the seed alone, whatever other entities there are.
with

drawn as (

    select
        entity_id,
        content_group,
        ('0x' || left(md5($seed || ':' || content_group), 8))::bigint % 100
            as percentile
    from int_content_groups

)

select
    entity_id,
    content_group,
    case
        when percentile < $test_percent then 'test'
        when percentile < $test_percent + $validation_percent then 'validation'
        else 'train'
    end as split
from drawn
order by entity_id
