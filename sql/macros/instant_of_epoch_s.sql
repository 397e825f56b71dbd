-- The instant of a Unix time in whole seconds, from 1970 to 9999; NULL outside of that.
create or replace macro instant_of_epoch_s(epoch_s) as
case
    when epoch_s between 0 and 253402300799
        then make_timestamptz(epoch_s * 1000000)
end
