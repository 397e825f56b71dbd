-- One row per point whose instant is put right. A receiver that counts weeks modulo
-- 1,024 tells an instant 7,168 days too early, or a multiple of that. No fix is later
-- than its upload, so the cycle is added as often as that stays true.
with

counted as (

    select
        point_id,
        epoch_us(tracked_at) as tracked_us,
        (epoch_us(received_at) - epoch_us(tracked_at)) // 619315200000000
            as num_rollovers
    from int_points_in_force
    where
        isfinite(tracked_at)
        and isfinite(received_at)
        and received_at >= tracked_at + interval 7168 days

)

select
    point_id,
    num_rollovers::integer as num_rollovers,
    make_timestamptz(tracked_us + num_rollovers * 619315200000000) as tracked_at
from counted
