-- The number that a text holds, written with this decimal mark, or null: an exponent
-- may follow, marks of thousands and units may not.
create or replace macro number_of(number_text, decimal_mark) as
case
    when
        not contains(number_text, if(decimal_mark = ',', '.', ','))
        and not contains(number_text, '_')
        and isfinite(try_cast(replace(number_text, ',', '.') as double))
        then try_cast(replace(number_text, ',', '.') as double)
end
