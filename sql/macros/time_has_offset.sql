-- Whether a time says by itself how far it is from UTC.
create or replace macro time_has_offset(instant_text, time_form, time_pattern) as
case time_form
    when 'iso'
        then
            regexp_matches(
                iso_text(instant_text), '[:.]\d+(Z|[+-]\d{2}(:?\d{2})?)$'
            )
    when 'pattern' then contains(time_pattern, '%z')
    else true
end
