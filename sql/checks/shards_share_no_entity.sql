-- No entity has trips in two splits.
select entity_id
from shards
group by entity_id
having count(distinct split) > 1
