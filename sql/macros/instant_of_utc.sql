-- The instant of a time without a zone that is known to be UTC.
create or replace macro instant_of_utc(utc_time) as
make_timestamptz(epoch_us(utc_time))
