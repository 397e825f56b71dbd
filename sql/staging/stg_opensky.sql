-- One row per state vector of an aircraft, with the first rule that rejects it, if any.
select
    point_id,
    nullif(trim(icao24), '') as entity_id,
    nullif(trim(callsign), '') as source_trip_id,
    -- Milliseconds of this century: seconds or microseconds give another one.
    case
        when timestamp between 946684800000 and 4102444800000
            then make_timestamptz(cast(round(timestamp * 1000) as bigint))
    end as tracked_at,
    wrapped_lon_deg(longitude) as lon_deg,
    latitude as lat_deg,
    -- Feet, knots, feet a minute in units of the SI; what is unknown stays so.
    altitude * 0.3048 as altitude_m,
    groundspeed * 1852.0 / 3600.0 as speed_mps,
    track as course_deg,
    vertical_rate * 0.3048 / 60.0 as vertical_rate_mps,
    onground as is_on_ground,
    squawk,
    file_id,
    line_number,
    case
        when nullif(trim(icao24), '') is null then 'no_entity'
        when timestamp is null then 'no_time'
        when timestamp not between 946684800000 and 4102444800000
            then 'implausible_time'
        when latitude is null or longitude is null then 'no_position'
        when place_fault(longitude, latitude) is not null
            then place_fault(longitude, latitude)
        -- An aircraft above 100 kn has moved since its record before: the receivers had
        -- no newer place and carried the old one on.
        when is_repeated and groundspeed > 100 then 'stale_position'
    end as rule
from records
