-- One row per row of the split: its text, which the hash of the split is made of.
select
    concat_ws(
        chr(9),
        part_id,
        trip_id,
        split,
        coalesce(epoch_us(from_at), 0),
        coalesce(epoch_us(until_at), 0)
    ) || chr(10) as row_text
from split
order by trip_id, from_at nulls first
