-- Point b seen from a, on the unit sphere: the component north. Differences in degrees
-- and half angles keep the digits of points that are close together.
create or replace macro arc_north(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg) as
sin(radians(lat_b_deg - lat_a_deg))
+ 2 * sin(radians(lat_a_deg)) * cos(radians(lat_b_deg))
* pow(sin(radians(lon_b_deg - lon_a_deg) / 2), 2)
