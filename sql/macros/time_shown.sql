-- What the clock showed, or null: in UTC where `time_has_offset`, else the local time.
-- Times in ISO 8601 come from `iso_text`; counts have `num_us` microseconds each.
create or replace macro time_shown(instant_text, time_form, time_pattern, num_us) as
case
    when time_form = 'iso' and time_has_offset(instant_text, 'iso', '')
        then timezone('UTC', try_cast(instant_text as timestamptz))
    when time_form = 'iso' then try_cast(instant_text as timestamp)
    when time_form = 'pattern' and regexp_matches(instant_text, '\d')
        then cast(try_strptime(instant_text, time_pattern) as timestamp)
    when
        time_form like 'epoch%'
        and abs(number_of(replace(instant_text, ',', '.'), '.')) * num_us < 1e17
        then
            make_timestamp(
                try_cast(
                    try_cast(
                        replace(instant_text, ',', '.') as decimal(28, 6)
                    ) * num_us as bigint
                )
            )
end
