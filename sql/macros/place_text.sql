-- A place as people read it, latitude first, or none.
create or replace macro place_text(lon_deg, lat_deg) as
coalesce(format('{:.5f}, {:.5f}', lat_deg, lon_deg), 'none')
