-- One row per point that is kept: what clocks and calendars of the dataset's zone show
-- at its instant. A point takes the last of the zone's offsets that has begun.
with

placed as (

    select
        points.point_id,
        points.entity_id,
        points.trip_id,
        points.tracked_at,
        make_timestamp(epoch_us(points.tracked_at) + zone_offsets.offset_us) as local_at
    from clean_points as points
    asof inner join zone_offsets
        on epoch_us(points.tracked_at) >= zone_offsets.from_us

)

select
    point_id,
    entity_id,
    trip_id,
    tracked_at,
    local_at,
    isodow(local_at) - 1 as local_weekday,
    hour(local_at) as local_hour,
    minute(local_at) as local_minute,
    second(local_at) as local_second,
    dayofyear(local_at) as local_day_of_year
from placed
order by entity_id, tracked_at, point_id
