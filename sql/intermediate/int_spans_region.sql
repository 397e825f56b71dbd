-- One row per trip that lies wholly inside the box, which is test, or wholly outside:
-- train or validation, as the group of its entity draws. A trip on both sides has none.
with

compared as (

    select
        trip_id,
        is_inside($west_deg, $south_deg, $east_deg, $north_deg, lon_deg, lat_deg)
            as lies_inside
    from clean_points

),

placed as (

    select
        trip_id,
        bool_and(lies_inside) as lies_inside,
        bool_or(lies_inside) as comes_inside
    from compared
    group by trip_id

),

allotted as (

    select
        entity_id,
        if(percentile < $validation_percent, 'validation', 'train') as split
    from int_entities_drawn

)

select
    trips.trip_id,
    if(placed.lies_inside, 'test', allotted.split) as split,
    null::timestamptz as from_at,
    null::timestamptz as until_at
from trips
inner join placed using (trip_id)
inner join allotted using (entity_id)
where placed.lies_inside or not placed.comes_inside
