-- One row per visit that is asked for: it is the last of `num_visits` that begin with
-- number `start` of its entity and split; those before it are what a model may see.
select
    (('0x' || left(md5('next_visit#' || visit_id), 16))::ubigint >> 1)::bigint
        as visit_window_id,
    entity_id,
    split,
    greatest(0, visit_number - $max_history)::integer as start,
    (least(visit_number, $max_history) + 1)::integer as num_visits,
    visit_id
from region_visits
where visit_number >= $min_history
order by visit_window_id
