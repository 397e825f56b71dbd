-- Whether a name is a number with an exponent that does not tell its last digits:
-- 3.67E+08 stands for any ship of a million, 4.2E+01 for 42.
create or replace macro is_number_rounded(name) as
regexp_full_match(name, '\d(\.\d+)?[eE]\+\d{1,2}')
and length(regexp_extract(name, '\.(\d+)', 1))
< cast(regexp_extract(name, '\+(\d+)$', 1) as integer)
