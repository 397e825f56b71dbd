-- All trips of an entity and its copies are cut at the same instants.
select
    content_group,
    split
from split
group by content_group, split
having
    count(distinct coalesce(epoch_us(from_at), 0)) > 1
    or count(distinct coalesce(epoch_us(until_at), 0)) > 1
