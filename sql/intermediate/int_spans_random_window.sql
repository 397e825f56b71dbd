-- One row per stretch of as many points as a window, one after the other along each
-- trip, each in a split drawn by itself. Neighbours part, so this leaks: a control, no
-- split.
with

numbered as (

    select
        trip_id,
        tracked_at,
        (row_number() over trip - 1) // $window_points as stretch
    from clean_points
    window trip as (partition by trip_id order by tracked_at, point_id)

),

stretches as (

    select
        trip_id,
        stretch,
        min(tracked_at) as from_at,
        ('0x' || left(md5($seed || ':' || trip_id || ':' || stretch), 8))::bigint
        % 100 as percentile
    from numbered
    group by trip_id, stretch

)

select
    trip_id,
    case
        when percentile < $test_percent then 'test'
        when percentile < $test_percent + $validation_percent then 'validation'
        else 'train'
    end as split,
    from_at,
    lead(from_at) over (partition by trip_id order by stretch) as until_at
from stretches
