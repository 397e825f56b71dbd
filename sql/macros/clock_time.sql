-- Year to second, apart by a space or T, with or without a fraction, as a time that
-- has no zone; NULL for any other text. A date alone is no midnight.
create or replace macro clock_time(text) as
case
    when
        text >= '0001'
        and (
            text like '____-__-__ __:__:__'
            or text like '____-__-__T__:__:__'
            or regexp_full_match(
                text, '\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}\.\d{1,6}'
            )
        )
        then try_cast(text as timestamp)
end
