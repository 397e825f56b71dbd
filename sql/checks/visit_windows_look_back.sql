-- Each window is visits in a row of one entity and split, and ends with the one asked
-- for; all that it shows was over before that one began, and no id stands for two.
with

counted as (

    select
        *,
        count(*) over (partition by visit_window_id) as num_windows
    from visit_windows

),

shown as (

    select
        counted.visit_window_id,
        count(*) as num_shown,
        max(visits.departed_at) as over_at
    from counted
    inner join region_visits as visits
        on
            counted.entity_id = visits.entity_id
            and counted.split = visits.split
            and counted.start <= visits.visit_number
            and counted.start + counted.num_visits - 1 > visits.visit_number
    group by counted.visit_window_id

)

select counted.visit_window_id
from counted
left join shown using (visit_window_id)
left join region_visits as visits
    on
        counted.visit_id = visits.visit_id
        and counted.entity_id = visits.entity_id
        and counted.split = visits.split
        and counted.start + counted.num_visits - 1 = visits.visit_number
where not coalesce(
    counted.num_windows = 1
    and counted.start >= 0
    and shown.num_shown = counted.num_visits - 1
    and shown.over_at <= visits.arrived_at,
    false
)
