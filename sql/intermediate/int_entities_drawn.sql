-- One row per entity: the group of its copies, and the percentile that the group draws
-- by its own name and the seed alone, whatever other entities there are.
select
    entity_id,
    content_group,
    ('0x' || left(md5($seed || ':' || content_group), 8))::bigint % 100
        as percentile
from int_content_groups
