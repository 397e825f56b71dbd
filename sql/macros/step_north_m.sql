-- The step from a to b at a: metres north.
create or replace macro step_north_m(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg) as
haversine_m(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
* cos(azimuth_rad(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg))
