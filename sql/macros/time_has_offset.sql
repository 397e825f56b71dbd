-- Whether a time says by itself how far it is from UTC. What comes after the date of a
-- text by `iso_text` holds a sign or a Z only for that.
create or replace macro time_has_offset(instant_text, time_form, time_pattern) as
case time_form
    when 'iso'
        then
            suffix(instant_text, 'Z')
            or contains(substr(instant_text, 12), '+')
            or contains(substr(instant_text, 12), '-')
    when 'pattern' then contains(time_pattern, '%z')
    else true
end
