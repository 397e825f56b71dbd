-- No row: the columns that every point has, in their order. Staging names those that a
-- source has; the others are filled by name, with null.
select
    cast(null as bigint) as point_id,
    cast(null as varchar) as entity_id,
    cast(null as varchar) as source_trip_id,
    cast(null as timestamptz) as tracked_at,
    cast(null as double) as lon_deg,
    cast(null as double) as lat_deg,
    cast(null as double) as altitude_m,
    cast(null as double) as speed_mps,
    cast(null as double) as course_deg,
    cast(null as timestamptz) as received_at
where false
