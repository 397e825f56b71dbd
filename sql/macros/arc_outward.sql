-- Point b seen from a, on the unit sphere: the component outward, cosine of the arc.
create or replace macro arc_outward(lon_a_deg, lat_a_deg, lon_b_deg, lat_b_deg) as
cos(radians(lat_b_deg - lat_a_deg))
- 2 * cos(radians(lat_a_deg)) * cos(radians(lat_b_deg))
* pow(sin(radians(lon_b_deg - lon_a_deg) / 2), 2)
