-- Direction from a to b in radians clockwise from north at a; 0 between equal points.
create or replace macro azimuth_rad(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg) as
atan2(
    arc_east(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg),
    arc_north(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
)
