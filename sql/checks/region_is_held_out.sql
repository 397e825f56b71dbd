-- Test holds points inside the box only, and the other splits none of them.
with

placed as (

    select
        trip_id,
        split,
        unnest(lon_deg) as lon_deg,
        unnest(lat_deg) as lat_deg
    from shards

)

select trip_id
from placed
where
    (split = 'test')
    != is_inside($west_deg, $south_deg, $east_deg, $north_deg, lon_deg, lat_deg)
group by trip_id
