-- Degrees of a whole number of, say, ten-millionths. One that was negative and was
-- stored without a sign in 32 bits is put right; others beyond half a turn are null.
create or replace macro angle_scaled_deg(whole, scale) as
case
    when abs(whole) <= 180 * scale then whole / scale
    when whole between 4294967296 - 180 * scale and 4294967295
        then (whole - 4294967296) / scale
end
