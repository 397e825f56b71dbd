-- Whether a place lies in a box or on its edge. The box goes from its west edge
-- eastwards, so it may span the date line, which has two names: both are tried.
create or replace macro is_inside(
    west_deg, south_deg, east_deg, north_deg, lon_deg, lat_deg
) as
lat_deg between south_deg and north_deg
and (
    lon_deg between west_deg and east_deg + if(east_deg < west_deg, 360, 0)
    or lon_deg + 360 between west_deg and east_deg + if(east_deg < west_deg, 360, 0)
    or lon_deg - 360 between west_deg and east_deg + if(east_deg < west_deg, 360, 0)
)
