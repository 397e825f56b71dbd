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
            whole_number_text(nullif(trim(entity), ''))
        ) as entity_id,
        nullif(trim(concat_ws(' ', day, clock)), '') as instant_text,
        if(clock is null, null, trim(day)) as day_text,
        -- A letter that is missing or another one leaves a text that is no place.
        trim(lon) || if(east_west is null, '', ' ' || rpad(trim(east_west), 1, '?'))
            as lon_text,
        trim(lat) || if(north_south is null, '', ' ' || rpad(trim(north_south), 1, '?'))
            as lat_text,
        trim(lon) = '' or trim(lat) = ''
        or list_contains($missing, trim(lon)) or list_contains($missing, trim(lat))
            as is_without_place,
        coalesce(list_contains($marked_out, lower(trim(mark))), false) as is_marked_out,
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
        degrees_of(lon_text, $decimal_mark, 'E', 'W', $coordinate_scale) as lon_deg,
        degrees_of(lat_text, $decimal_mark, 'N', 'S', $coordinate_scale) as lat_deg,
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
        ) as written_at,
        -- Of two passes the later one: nothing is received before it is tracked.
        if(
            epoch_us(reported_received_at) between $earliest_us and $latest_us,
            timezone(if(is_receipt_utc, 'UTC', $zone), reported_received_at),
            null
        ) as received_at
    from numbers

),

-- Where the date stands beside the clock, some loggers write the date of the start all
-- the way. Rows of one date in the order of recording are a stretch; in it, a step of
-- more than 12 hours against the direction of most steps goes over midnight.
followed as (

    select
        point_id,
        file_id,
        entity_id,
        line_number,
        day_text,
        written_at,
        coalesce(day_text != lag(day_text) over recorded, true) as is_other_day,
        epoch(written_at - lag(written_at) over recorded) as step_s
    from credible
    where day_text is not null and written_at is not null
    window recorded as (
        partition by file_id, entity_id order by line_number, point_id
    )

),

stretched as (

    select
        *,
        if(is_other_day, null, step_s) as step_in_day_s,
        count_if(is_other_day) over (
            partition by file_id, entity_id
            order by line_number, point_id
            rows between unbounded preceding and current row
        ) as stretch
    from followed

),

directed as (

    select
        *,
        coalesce(
            count_if(step_in_day_s between -43200 and -1e-6) over in_stretch
            > count_if(step_in_day_s > 0) over in_stretch,
            false
        ) as is_backward
    from stretched
    window in_stretch as (partition by file_id, entity_id, stretch)

),

midnights as (

    select
        *,
        coalesce(
            if(is_backward, step_in_day_s > 43200, step_in_day_s < -43200), false
        ) as is_midnight
    from directed

),

counted as (

    select
        point_id,
        file_id,
        entity_id,
        stretch,
        written_at,
        if(
            is_backward,
            count_if(is_midnight) over in_stretch
            - count_if(is_midnight) over until_now,
            count_if(is_midnight) over until_now
        ) as num_days
    from midnights
    window
        in_stretch as (partition by file_id, entity_id, stretch),
        until_now as (
            partition by file_id, entity_id, stretch
            order by line_number, point_id
            rows between unbounded preceding and current row
        )

),

moved as (

    select
        point_id,
        file_id,
        entity_id,
        stretch,
        num_days,
        written_at + to_days(cast(num_days as integer)) as clock_at
    from counted

),

stretches as (

    select
        file_id,
        entity_id,
        stretch,
        min(clock_at) as from_at,
        min(if(num_days > 0, clock_at, null)) as moved_from_at,
        max(clock_at) as until_at
    from moved
    group by file_id, entity_id, stretch

),

-- What would fall among the rows of another date may belong there or not.
unsure as (

    select distinct
        stretches.file_id,
        stretches.entity_id,
        stretches.stretch
    from stretches
    inner join stretches as beside
        on
            stretches.file_id = beside.file_id
            and stretches.entity_id is not distinct from beside.entity_id
            and stretches.stretch != beside.stretch
            and stretches.moved_from_at <= beside.until_at
            and stretches.until_at >= beside.from_at

),

days_told as (

    select
        moved.point_id,
        moved.clock_at,
        moved.num_days > 0 and unsure.stretch is not null as is_day_untold
    from moved
    left join unsure
        on
            moved.file_id = unsure.file_id
            and moved.entity_id is not distinct from unsure.entity_id
            and moved.stretch = unsure.stretch

),

clocked as (

    select
        credible.*,
        coalesce(days_told.is_day_untold, false) as is_day_untold,
        coalesce(days_told.clock_at, credible.written_at) as clock_at
    from credible
    left join days_told using (point_id)

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
    from clocked

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
        when is_marked_out then 'marked_out'
        when entity_id is null then 'no_entity'
        when is_number_rounded(entity_id) then 'rounded_entity'
        when
            reported_at is null
            and (
                $num_us = 0
                or number_of(replace(instant_text, ',', '.'), '.') is null
            )
            then 'bad_time'
        when clock_at is null then 'implausible_time'
        when is_day_untold then 'untold_day'
        when tracked_at is null then 'skipped_local_time'
        when is_without_place then 'no_position'
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
