-- The form of degrees without a sign: a number, or whole degrees with minutes below 60,
-- or both whole with seconds below 60; the mark of degrees may be left out unless asked
-- for where there are no minutes.
create or replace macro angle_form(mark := '°?') as
'(\d{1,3}(\.\d+)?' || mark || '|\d{1,3}° ?[0-5]?\d(\.\d+)?''|'
|| '\d{1,3}° ?[0-5]?\d'' ?[0-5]?\d(\.\d+)?")'
