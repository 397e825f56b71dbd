-- One row: the silences between one trip and the next of an entity.
with

paired as (

    select
        (
            epoch_us(started_at)
            - epoch_us(
                lag(finished_at) over (
                    partition by entity_id order by started_at, trip_id
                )
            )
        ) / 1e6 as silence_s
    from trips

)

select
    count(*) filter (where silence_s > 0) as num_silences,
    quantile_disc(silence_s, 0.5) filter (where silence_s > 0) as p50,
    quantile_disc(silence_s, 0.95) filter (where silence_s > 0) as p95,
    max(silence_s) filter (where silence_s > 0) as p100,
    count(*) filter (where silence_s <= 0) as num_overlaps
from paired
