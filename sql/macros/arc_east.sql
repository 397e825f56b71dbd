-- Point b seen from a, on the unit sphere: the component east.
-- See model/earth/geometry.py.
create or replace macro arc_east(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg) as
sin(
    radians(
        lon_b_deg - lon_a_deg - 360.0 * round_even((lon_b_deg - lon_a_deg) / 360.0, 0)
    )
) * cos(radians(lat_b_deg))
