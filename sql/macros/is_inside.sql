-- Whether a place lies in a box or on its edge; west of the east edge is the box, so that
-- one may span the date line. The date line has two names, and both are tried.
create or replace macro is_inside(west_deg, south_deg, east_deg, north_deg, lon_deg, lat_deg) as
    lat_deg between south_deg and north_deg
    and (
        lon_deg between west_deg and east_deg + if(east_deg < west_deg, 360, 0)
        or lon_deg + 360 between west_deg and east_deg + if(east_deg < west_deg, 360, 0)
        or lon_deg - 360 between west_deg and east_deg + if(east_deg < west_deg, 360, 0)
    );
