-- One row per pair of trips of two entities that are copies: they share exact points at
-- $min_places places, or at all places of the smaller trip where it has fewer. Places
-- count, not points: two taxis that wait at one stand share many instants at one place.
-- A trip that stays at one place has no path to copy.
with

paired as (

    select
        a.entity_id as entity_a_id,
        b.entity_id as entity_b_id,
        a.trip_id as trip_a_id,
        b.trip_id as trip_b_id,
        count(distinct row(a.lon_deg, a.lat_deg)) as num_shared
    from int_points_shared as a
    inner join int_points_shared as b
        on
            a.tracked_at = b.tracked_at
            and a.lon_deg = b.lon_deg
            and a.lat_deg = b.lat_deg
            and a.entity_id < b.entity_id
    group by a.entity_id, b.entity_id, a.trip_id, b.trip_id

),

suspects as (

    select trip_a_id as trip_id from paired
    union
    select trip_b_id as trip_id from paired

),

sized as (

    select
        points.trip_id,
        count(distinct row(points.lon_deg, points.lat_deg)) as num_places
    from clean_points as points
    semi join suspects using (trip_id)
    group by points.trip_id

),

measured as (

    select
        paired.entity_a_id,
        paired.entity_b_id,
        paired.trip_a_id,
        paired.trip_b_id,
        paired.num_shared,
        least(a.num_places, b.num_places) as num_smaller
    from paired
    inner join sized as a on paired.trip_a_id = a.trip_id
    inner join sized as b on paired.trip_b_id = b.trip_id

)

select *
from measured
where num_shared >= least($min_places, greatest(2, num_smaller))
order by trip_a_id, trip_b_id
