-- A name that is a whole number, as tables made of numbers write it (42.0 or 4.2E+01),
-- in its digits; any other text as it is, zeros in front too. Hexadecimal names stay:
-- they have neither a point nor a plus.
create or replace macro whole_number_text(name) as
case
    when regexp_full_match(name, '\d+\.0+') then regexp_extract(name, '^\d+')
    when
        regexp_full_match(name, '\d(\.\d+)?[eE]\+\d{1,2}')
        and not is_number_rounded(name)
        then cast(cast(try_cast(name as decimal(38, 6)) as hugeint) as varchar)
    else name
end
