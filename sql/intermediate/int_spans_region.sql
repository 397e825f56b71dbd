-- One row per trip that lies wholly inside the box, which is test, or wholly outside:
-- train or validation, as the group of its entity draws. A trip on both sides has none.
with

placed as (

    select
        trip_id,
        bool_and(is_inside($west_deg, $south_deg, $east_deg, $north_deg, lon_deg, lat_deg))
            as lies_inside,
        bool_or(is_inside($west_deg, $south_deg, $east_deg, $north_deg, lon_deg, lat_deg))
            as comes_inside
    from clean_points
    group by trip_id

)

select
    trips.trip_id,
    case
        when placed.lies_inside then 'test'
        when drawn.percentile < $validation_percent then 'validation'
        else 'train'
    end as split,
    null::timestamptz as from_at,
    null::timestamptz as until_at
from trips
inner join placed using (trip_id)
inner join int_entities_drawn as drawn using (entity_id)
where placed.lies_inside or not placed.comes_inside
