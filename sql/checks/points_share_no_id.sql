-- Two records share a point_id, by which every window function breaks its ties.
select point_id
from read_parquet($paths)
group by point_id
having count(*) > 1
limit 1
