-- One row per point whose place is an old one that was carried on: the entity has
-- reported exactly this place since an earlier point, and by its own speed, of two
-- metres a second or more, it is 30 m away by now.
with

reported as (

    select
        point_id,
        entity_id,
        source_trip_id,
        tracked_us,
        lon_deg,
        lat_deg,
        speed_mps
    from int_points_screened
    where rule is null and speed_mps is not null

),

compared as (

    select
        *,
        coalesce(
            lon_deg = lag(lon_deg) over in_time and lat_deg = lag(lat_deg) over in_time,
            false
        ) as is_repeated
    from reported
    window in_time as (
        partition by entity_id, source_trip_id order by tracked_us, point_id
    )

),

carried as (

    select
        *,
        max(if(is_repeated, null, tracked_us)) over (
            partition by entity_id, source_trip_id
            order by tracked_us, point_id
            rows between unbounded preceding and current row
        ) as since_us
    from compared

)

select point_id
from carried
where
    is_repeated
    and speed_mps >= 2
    and speed_mps * (tracked_us - since_us) >= 30e6
