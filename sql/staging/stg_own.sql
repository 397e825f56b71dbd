-- One row per record of a person's own file, with the first rule that rejects it, if
-- any. A column that was not asked for is null; an empty cell is an empty text.
with

texts as (

    select
        file_id,
        line_number,
        point_id,
        if(
            entity is null,
            regexp_replace(file_name, '\.[^./]*$', ''),
            nullif(trim(entity), '')
        ) as entity_id,
        nullif(trim(concat_ws(' ', day, clock)), '') as instant_text,
        trim(lon) as lon_text,
        trim(lat) as lat_text,
        if(list_contains($missing, trim(trip)), null, trim(trip)) as trip_text,
        if(list_contains($missing, trim(altitude)), '', trim(altitude))
            as altitude_text,
        if(list_contains($missing, trim(speed)), '', trim(speed)) as speed_text,
        if(list_contains($missing, trim(course)), '', trim(course)) as course_text,
        if(list_contains($missing, trim(received_at)), '', trim(received_at))
            as received_text
    from records

),

spelt as (

    select
        * exclude (instant_text, received_text),
        received_text != '' as is_receipt_told,
        if($time_form = 'iso', iso_text(instant_text), instant_text) as instant_text,
        if($time_form = 'iso', iso_text(received_text), received_text)
            as received_text
    from texts

),

numbers as (

    select
        *,
        number_of(lon_text, $decimal_mark) / $coordinate_scale as lon_deg,
        number_of(lat_text, $decimal_mark) / $coordinate_scale as lat_deg,
        number_of(altitude_text, $decimal_mark) * $m_per_altitude as altitude_m,
        number_of(speed_text, $decimal_mark) * $mps_per_speed as speed_mps,
        number_of(course_text, $decimal_mark) as course_deg,
        $zone = 'UTC'
        or time_has_offset(instant_text, $time_form, $time_pattern) as is_utc,
        time_shown(instant_text, $time_form, $time_pattern, $num_us) as reported_at,
        time_has_offset(received_text, $time_form, $time_pattern) as is_receipt_utc,
        time_shown(received_text, $time_form, $time_pattern, $num_us)
            as reported_received_at
    from spelt

),

credible as (

    select
        *,
        if(
            epoch_us(reported_at) between $earliest_us and $latest_us,
            reported_at,
            null
        ) as clock_at,
        -- Of two passes the later one: nothing is received before it is tracked.
        if(
            epoch_us(reported_received_at) between $earliest_us and $latest_us,
            timezone(if(is_receipt_utc, 'UTC', $zone), reported_received_at),
            null
        ) as received_at
    from numbers

),

-- A local time is read with the offsets of the day before and of the day after. Clocks
-- show it at both instants where they go back over it, at none where they skip it.
candidates as (

    select
        *,
        timezone('UTC', clock_at) - if(
            is_utc,
            interval 0 hour,
            zone_offset(timezone('UTC', clock_at) - interval 1 day, $zone)
        ) as first_at,
        timezone('UTC', clock_at) - if(
            is_utc,
            interval 0 hour,
            zone_offset(timezone('UTC', clock_at) + interval 1 day, $zone)
        ) as second_at
    from credible

),

shown as (

    select
        *,
        is_utc or timezone($zone, first_at) = clock_at as is_first_shown,
        is_utc or timezone($zone, second_at) = clock_at as is_second_shown,
        $skipped_hour = 'before' as is_skipped_hour_read
    from candidates

),

-- Times that come twice. In the order of a file, the second pass of an entity lasts
-- from where its clock steps back to the end of the night; nights end at noon.
repeated as (

    select
        point_id,
        file_id,
        entity_id,
        line_number,
        date_trunc('day', clock_at - interval 12 hour) as night,
        clock_at < lag(clock_at) over passed as is_step_back
    from shown
    where is_first_shown and is_second_shown and first_at < second_at
    window passed as (
        partition by
            file_id, entity_id, date_trunc('day', clock_at - interval 12 hour)
        order by line_number, point_id
    )

),

passes as (

    select
        point_id,
        case $repeated_hour
            when 'first' then false
            when 'second' then true
            else coalesce(bool_or(is_step_back) over passed, false)
        end as is_second_pass
    from repeated
    window passed as (
        partition by file_id, entity_id, night
        order by line_number, point_id
        rows between unbounded preceding and current row
    )

),

timed as (

    select
        shown.*,
        case
            when passes.is_second_pass then shown.second_at
            when shown.is_first_shown then shown.first_at
            when shown.is_second_shown then shown.second_at
            when shown.is_skipped_hour_read then shown.first_at
        end as tracked_at
    from shown
    left join passes using (point_id)

)

select
    point_id,
    entity_id,
    nullif(trip_text, '') as source_trip_id,
    tracked_at,
    wrapped_lon_deg(lon_deg) as lon_deg,
    lat_deg,
    altitude_m,
    speed_mps,
    course_deg,
    received_at,
    file_id,
    line_number,
    case
        when entity_id is null then 'no_entity'
        when
            reported_at is null
            and (
                $num_us = 0
                or number_of(replace(instant_text, ',', '.'), '.') is null
            )
            then 'bad_time'
        when clock_at is null then 'implausible_time'
        when tracked_at is null then 'skipped_local_time'
        when lon_deg is null or lat_deg is null then 'bad_position'
        when place_fault(lon_deg, lat_deg, east_deg := 360) is not null
            then place_fault(lon_deg, lat_deg, east_deg := 360)
        when
            (altitude_text != '' and altitude_m is null)
            or (speed_text != '' and speed_mps is null)
            or (course_text != '' and course_deg is null)
            then 'bad_number'
        when is_receipt_told and received_at is null then 'bad_received_at'
    end as rule
from timed
