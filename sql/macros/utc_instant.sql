-- The instant of a date and a time in any spelling of ISO 8601, or null: in UTC where
-- no offset is told. A date alone is no midnight.
create or replace macro utc_instant(instant_text) as
case
    when contains(instant_text, ':')
        then try_cast(iso_text(trim(instant_text)) as timestamptz)
end
