-- Year to second, apart by a space or T, with or without a fraction, as a time without a
-- zone; NULL for any other text. A date alone is no midnight.
create or replace macro clock_time(text) as
case
    when
        text >= '0001'
        and regexp_full_match(
            text, '\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?'
        )
        then try_cast(text as timestamp)
end
