-- The degrees that a text holds, or null: a number, or degrees with a letter for their
-- half of the Earth, or with marked minutes and seconds (47°30'15"N). A scaled number
-- is whole.
create or replace macro degrees_of(
    degrees_text, decimal_mark, positive, negative, scale
) as
case
    when scale != 1
        then angle_scaled_deg(number_of(degrees_text, decimal_mark), scale)
    else
        coalesce(
            number_of(degrees_text, decimal_mark),
            angle_marked_deg(
                replace(upper(degrees_text), decimal_mark, '.'), positive, negative
            )
        )
end
