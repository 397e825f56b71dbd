-- Two records share a point_id, by which every window function breaks its ties.
select point_id
from read_parquet($paths, hive_partitioning = false)
where point_id % $num_shares = $share
group by point_id
having count(*) > 1
