-- Degrees of 12.5 N, N 12.5, 12°30'N or 12°30'15.5"S, or null. The letter is one of the
-- two of its axis; without a letter a minus may stand in front of degrees with a mark.
create or replace macro angle_marked_deg(marked_text, positive, negative) as
case
    when
        regexp_full_match(
            marked_text,
            '(' || positive || '|' || negative || ') ?' || angle_form()
        )
        or regexp_full_match(
            marked_text,
            angle_form() || ' ?(' || positive || '|' || negative || ')'
        )
        or regexp_full_match(marked_text, '-?' || angle_form('°'))
        then
            if(contains(marked_text, negative) or contains(marked_text, '-'), -1, 1)
            * (
                cast(regexp_extract(marked_text, '[0-9.]+') as double)
                + coalesce(
                    try_cast(regexp_extract(marked_text, '([0-9.]+)''', 1) as double), 0
                )
                / 60
                + coalesce(
                    try_cast(regexp_extract(marked_text, '([0-9.]+)"', 1) as double), 0
                )
                / 3600
            )
end
