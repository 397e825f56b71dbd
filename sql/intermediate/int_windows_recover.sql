-- One row per window and mask of recovery, of validation and test. Masks are drawn by
-- the seed and the window's own name: of the points between the first and the last,
-- those of the smallest draws are kept (so a sparser mask keeps some of a denser
-- one's), or one block is hidden, where the window is long enough for it.
with

candidates as (

    select *
    from int_windows_named
    where split != 'train'

),

lotteries as (

    select
        *,
        list_transform(
            range(1, num_points - 1),
            lambda place: md5(concat_ws(':', $seed, window_name, place))
        ) as draws,
        unnest([2, 4, 8]) as thinning
    from candidates

),

thresholds as (

    select
        *,
        -- The ends are kept besides; where they are all, no draw is small enough.
        coalesce(
            list_sort(draws)[
                greatest(2, round(num_points / thinning)::integer) - 2
            ],
            ''
        ) as largest
    from lotteries

),

thinnings as (

    select
        * exclude (draws, thinning, largest),
        'keep_1_' || thinning as mask,
        [true]
        || list_transform(draws, lambda draw: draw <= largest)
        || [true] as is_observed
    from thresholds

),

sizes as (

    select
        *,
        unnest([5, 10, 20]) as size
    from candidates

),

places as (

    select
        *,
        1 + (
            '0x' || left(md5(concat_ws(':', $seed, window_name, 'block', size)), 8)
        )::bigint % (num_points - 1 - size) as first_hidden
    from sizes
    where num_points >= size + 2

),

blocks as (

    select
        * exclude (size, first_hidden),
        'block_' || size as mask,
        list_transform(
            range(0, num_points),
            lambda place: not place between first_hidden and first_hidden + size - 1
        ) as is_observed
    from places

),

masks as (

    select * from thinnings
    union all by name
    select * from blocks

)

select
    *,
    'recover' as task
from masks
