-- Whether any point has a reported motion.
select exists (
    from clean_points
    where reports_motion(speed_mps, course_deg)
) as is_reported
