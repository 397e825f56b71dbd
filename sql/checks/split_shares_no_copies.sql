-- No trip has a copy in another split: exact points shared at that many places.
with

placed as (

    select
        points.trip_id,
        points.tracked_at,
        points.lon_deg,
        points.lat_deg,
        split.split
    from clean_points as points
    inner join split
        on
            points.trip_id = split.trip_id
            and (split.from_at is null or points.tracked_at >= split.from_at)
            and (split.until_at is null or points.tracked_at < split.until_at)

),

leaks as (

    select
        tracked_at,
        lon_deg,
        lat_deg
    from placed
    group by tracked_at, lon_deg, lat_deg
    having min(split) != max(split)

),

leaked as (

    select placed.*
    from placed
    semi join leaks using (tracked_at, lon_deg, lat_deg)

),

paired as (

    select
        a.trip_id as trip_a_id,
        b.trip_id as trip_b_id,
        count(distinct row(a.lon_deg, a.lat_deg)) as num_shared
    from leaked as a
    inner join leaked as b
        on
            a.tracked_at = b.tracked_at
            and a.lon_deg = b.lon_deg
            and a.lat_deg = b.lat_deg
            and a.split < b.split
    group by a.trip_id, b.trip_id

),

sized as (

    select
        placed.trip_id,
        count(distinct row(placed.lon_deg, placed.lat_deg)) as num_places
    from placed
    semi join leaked using (trip_id)
    group by placed.trip_id

),

measured as (

    select
        paired.trip_a_id,
        paired.trip_b_id,
        paired.num_shared,
        bool_or(paired.num_shared = sized.num_places) as is_whole
    from paired
    inner join sized on sized.trip_id in (paired.trip_a_id, paired.trip_b_id)
    group by paired.trip_a_id, paired.trip_b_id, paired.num_shared

)

-- At that many places, or at all places of one of the two, but never at one alone.
select *
from measured
where num_shared >= $min_places or (is_whole and num_shared > 1)
