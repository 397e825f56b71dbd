-- The rule that a place breaks, or null: both its numbers are finite and on Earth, with
-- longitudes as far as the source may count them. Receivers without a fix report
-- latitude 91, longitude 181, or 999 for either.
create or replace macro place_fault(
    lon_deg, lat_deg, west_deg := -180, east_deg := 180
) as
case
    when not (isfinite(lat_deg) and isfinite(lon_deg)) then 'not_finite'
    when
        abs(lat_deg) in (91, 999, 9999)
        or abs(lon_deg) in (999, 9999)
        or (abs(lon_deg) = 181 and east_deg = 180)
        then 'no_position'
    when
        lat_deg not between -90 and 90
        or lon_deg not between west_deg and east_deg
        then 'out_of_range'
end
