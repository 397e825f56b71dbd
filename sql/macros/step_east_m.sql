-- The step from a to b at a: metres east.
create or replace macro step_east_m(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg) as
haversine_m(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
* sin(azimuth_rad(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg))
