-- One row per trip that is worth a look: the longest ones, and those with most rejects.
with

rejected as (

    select
        points.entity_id,
        points.tracked_at
    from points
    inner join clean_rejects using (point_id)

),

counted as (

    select
        trips.trip_id,
        trips.num_points,
        trips.length_m,
        count(rejected.tracked_at) as num_rejected
    from trips
    left join rejected
        on
            regexp_replace(trips.entity_id, '#[0-9]+$', '') = rejected.entity_id
            and trips.started_at <= rejected.tracked_at
            and trips.finished_at >= rejected.tracked_at
    group by trips.trip_id, trips.num_points, trips.length_m

),

ranked as (

    select
        *,
        row_number() over (order by num_points desc, trip_id asc) as size_rank,
        row_number() over (order by num_rejected desc, trip_id asc) as reject_rank
    from counted

)

select
    trip_id,
    num_points,
    length_m,
    num_rejected
from ranked
where size_rank <= $num_each or (reject_rank <= $num_each and num_rejected > 0)
order by size_rank
