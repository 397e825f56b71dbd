-- One row per stretch of time of an entity between two instants at which a label
-- begins or has ended, with the mode that holds in it, if any. Of overlapping labels
-- the one that began last holds, of those the first to end, of those the first line.
with

labels as (

    select
        *,
        -- A label holds at its last instant too.
        finished_at + interval 1 microsecond as ended_at
    from int_labels_in_force

),

edges as (

    select
        entity_id,
        started_at as from_at
    from labels
    union
    select
        entity_id,
        ended_at as from_at
    from labels

),

candidates as (

    select
        edges.entity_id,
        edges.from_at,
        labels.mode,
        row_number() over (
            partition by edges.entity_id, edges.from_at
            order by
                labels.started_at desc nulls last,
                labels.finished_at asc,
                labels.file_id asc,
                labels.line_number asc
        ) as rank
    from edges
    left join labels
        on
            edges.entity_id = labels.entity_id
            and edges.from_at >= labels.started_at
            and edges.from_at < labels.ended_at

)

select
    entity_id,
    from_at,
    mode
from candidates
where rank = 1
order by entity_id, from_at
