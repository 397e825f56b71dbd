-- Each trip stands once in the shards, whole, in the split of its entity.
with

assigned as (

    select
        trips.trip_id,
        trips.num_points,
        split.split
    from trips
    left join split using (entity_id)

),

sharded as (

    select
        trip_id,
        count(*) as num_rows,
        min(split) as split,
        min(len(t_s)) as num_points
    from shards
    group by trip_id

)

select coalesce(assigned.trip_id, sharded.trip_id) as trip_id
from assigned
full outer join sharded on assigned.trip_id = sharded.trip_id
where not coalesce(
    sharded.num_rows = 1
    and sharded.num_points = assigned.num_points
    and sharded.split = assigned.split,
    false
)
