-- A record that was read is neither among the points nor among the rejects, or in both.
select
    name,
    num_records,
    num_kept,
    num_rejected
from files
where num_records <> num_kept + num_rejected
order by name
