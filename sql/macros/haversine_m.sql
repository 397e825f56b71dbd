-- Great-circle distance in metres on the sphere of the mean radius of WGS 84.
create or replace macro haversine_m(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg) as
6371008.8 * atan2(
    sqrt(
        pow(arc_east(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg), 2)
        + pow(arc_north(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg), 2)
    ),
    arc_outward(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg)
)
