-- One row per point, with its instant put right: a receiver that counts weeks modulo
-- 1,024 tells an instant 7,168 days too early, or twice that. No fix is later than its
-- upload, so the cycle is added as often as that stays true.
with

counted as (

    select
        *,
        if(
            isfinite(tracked_at) and received_at >= tracked_at,
            (epoch_us(received_at) - epoch_us(tracked_at)) // 619315200000000,
            0
        ) as num_rollovers
    from int_points_in_force

)

select
    * replace (
        if(
            num_rollovers > 0,
            make_timestamptz(
                epoch_us(tracked_at) + num_rollovers * 619315200000000
            ),
            tracked_at
        ) as tracked_at,
        coalesce(num_rollovers, 0)::integer as num_rollovers
    )
from counted
