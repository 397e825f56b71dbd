-- A date, or date and time, of ISO 8601 in the spelling that casts take, or null. Most
-- texts are spelt so already.
create or replace macro iso_text(instant_text) as
case
    when
        regexp_full_match(
            instant_text,
            '\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z?'
        )
        then instant_text
    else
        nullif(
            regexp_extract(
                regexp_replace(
                    regexp_replace(
                        replace(upper(instant_text), ',', '.'),
                        ' ?(UTC|GMT)$',
                        'Z'
                    ),
                    ' ([+-]\d{2}(:?\d{2})?)$',
                    '\1'
                ),
                '^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,12})?)?'
                || '(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)?)?$'
            ),
            ''
        )
end
