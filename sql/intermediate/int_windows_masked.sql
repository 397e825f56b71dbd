-- One row per window, task and mask: which of its points are observed. What a model is
-- only judged on is stored of validation and test alone. Masks of recovery are drawn by
-- the seed and the window's own name: of the points between the first and the last,
-- those of the smallest draws are kept (so a sparser mask keeps some of a denser
-- one's), or one block is hidden, where the window is long enough for it.
with

named as (

    select
        *,
        trip_id || '#' || start as window_name
    from int_windows_measured
    where longest_step_s <= coalesce($longest_step_s, 2 * interval_s)

),

judged as (

    select * from named
    where split != 'train'

),

keyed as (

    select
        *,
        list_transform(
            range(1, num_points - 1),
            lambda place: md5(concat_ws(':', $seed, window_name, place))
        ) as draws
    from judged
    where list_contains($tasks, 'recover')

),

ranked as (

    select
        *,
        list_sort(draws) as ranks,
        unnest([2, 4, 8]) as thinning
    from keyed

),

bounded as (

    select
        *,
        -- The ends are kept besides; where they are all, no draw is small enough.
        coalesce(
            ranks[greatest(2, round(num_points / thinning)::integer) - 2], ''
        ) as largest
    from ranked

),

thinned as (

    select
        * exclude (draws, ranks, thinning, largest),
        'recover' as task,
        'keep_1_' || thinning as mask,
        [true]
        || list_transform(draws, lambda draw: draw <= largest)
        || [true] as is_observed
    from bounded

),

sized as (

    select
        *,
        unnest([5, 10, 20]) as size
    from judged
    where list_contains($tasks, 'recover')

),

named_blocks as (

    select
        *,
        md5(concat_ws(':', $seed, window_name, 'block', size)) as digest
    from sized
    where num_points >= size + 2

),

placed as (

    select
        * exclude (digest),
        1 + ('0x' || left(digest, 8))::bigint % (num_points - 1 - size)
            as first_hidden
    from named_blocks

),

blocked as (

    select
        * exclude (size, first_hidden),
        'recover' as task,
        'block_' || size as mask,
        list_transform(
            range(0, num_points),
            lambda place: not place between first_hidden and first_hidden + size - 1
        ) as is_observed
    from placed

),

ended as (

    select
        *,
        'path_inference' as task,
        'ends' as mask,
        list_transform(
            range(0, num_points), lambda place: place in (0, num_points - 1)
        ) as is_observed
    from judged
    where list_contains($tasks, 'path_inference')

),

headed as (

    select
        *,
        'forecast' as task,
        'horizon' as mask,
        list_transform(
            range(0, num_points), lambda place: place < $num_context
        ) as is_observed
    from named
    where list_contains($tasks, 'forecast')

)

select * from headed
union all by name
select * from ended
union all by name
select * from thinned
union all by name
select * from blocked
