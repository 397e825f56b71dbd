-- One row per trip and split that it reaches into: the last points of each group of
-- copies are its test, those before its validation, and the ends of train and
-- validation are left out over the purge gap. A group with less than a window in one of
-- the three is not cut, and is all train.
with

grouped as (

    select
        copies.content_group,
        points.tracked_at
    from clean_points as points
    inner join int_content_groups as copies using (entity_id)

),

cuts as (

    select
        content_group,
        quantile_disc(
            tracked_at, 1 - ($validation_percent + $test_percent) / 100
        ) as validation_at,
        quantile_disc(tracked_at, 1 - $test_percent / 100) as test_at
    from grouped
    group by content_group

),

spans as (

    select
        content_group,
        unnest(['train', 'validation', 'test']) as split,
        unnest([null, validation_at, test_at]) as from_at,
        unnest([
            validation_at - to_microseconds(($purge_gap_s * 1e6)::bigint),
            test_at - to_microseconds(($purge_gap_s * 1e6)::bigint),
            null
        ]) as until_at
    from cuts

),

counted as (

    select
        spans.content_group,
        spans.split,
        count(*) as num_points
    from grouped
    inner join spans
        on
            grouped.content_group = spans.content_group
            and (spans.from_at is null or grouped.tracked_at >= spans.from_at)
            and (spans.until_at is null or grouped.tracked_at < spans.until_at)
    group by spans.content_group, spans.split

),

divided as (

    select content_group
    from counted
    where num_points >= $window_points
    group by content_group
    having count(*) = 3

),

allotted as (

    select spans.*
    from spans
    semi join divided using (content_group)
    union all
    select
        content_group,
        'train' as split,
        null as from_at,
        null as until_at
    from cuts
    anti join divided using (content_group)

)

select
    trips.trip_id,
    allotted.split,
    allotted.from_at,
    allotted.until_at
from trips
inner join int_content_groups as copies using (entity_id)
inner join allotted
    on
        copies.content_group = allotted.content_group
        and (allotted.from_at is null or trips.finished_at >= allotted.from_at)
        and (allotted.until_at is null or trips.started_at < allotted.until_at)
