-- How far the clocks of a zone are ahead of UTC at an instant.
create or replace macro zone_offset(instant, zone) as
timezone(zone, instant) - timezone('UTC', instant)
