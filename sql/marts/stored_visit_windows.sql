-- One row per task and stored window of visits, as windows of any kind are read.
--
-- Of a next visit all but the last are observed, and that one is asked for. In a window
-- of infilling, of validation and test, visits between the ends are hidden with the
-- share of training, by the seed and the window's own name, and that of the smallest
-- draw in any case. At most so many windows of a split are stored: their names are
-- hashes, so that the first of them are spread evenly.
with

candidates as (

    select
        *,
        list_transform(
            range(1, num_visits - 1),
            lambda place: (
                '0x'
                || left(
                    md5(concat_ws(':', $seed, visit_window_id, 'infill', place)), 8
                )
            )::bigint
        ) as draws
    from visit_windows
    where split != 'train' and num_visits >= $min_infilled
    qualify
        row_number() over (partition by split order by visit_window_id)
        <= $max_infilled

),

windows as (

    select
        visit_window_id as window_id,
        'next_visit' as task,
        entity_id,
        split,
        'last' as mask,
        start,
        num_visits as num_points,
        list_append(list_resize([]::boolean[], num_visits - 1, true), false)
            as is_observed
    from visit_windows
    union all
    select
        visit_window_id as window_id,
        'infill' as task,
        entity_id,
        split,
        'inner' as mask,
        start,
        num_visits as num_points,
        [true]
        || list_transform(
            draws,
            lambda draw: draw > list_min(draws)
            and draw >= $hidden_share * (1::bigint << 32)
        )
        || [true] as is_observed
    from candidates

)

select
    window_id,
    task,
    entity_id,
    split,
    mask,
    start,
    num_points,
    list_count(list_filter(is_observed, lambda is_shown: is_shown))::integer
        as num_context,
    is_observed
from windows
order by window_id, task
