-- One row per entity of a block: the bucket in which its points stand.
select distinct
    entity_id,
    entity_bucket(entity_id, $num_buckets) as bucket
from kept
order by entity_id
