-- Whether a source reported a speed and a course over ground, told from 0 up to 360
-- degrees. What stands still needs no course.
create or replace macro reports_motion(speed_mps, course_deg) as
coalesce(
    speed_mps >= 0
    and isfinite(speed_mps)
    and (speed_mps = 0 or course_deg between 0 and 360),
    false
)
