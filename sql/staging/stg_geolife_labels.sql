-- One row per line of a labels file, with the first rule that rejects it, if any.
-- Instants are GMT, as those of the trajectories are.
with

typed as (

    select
        file_id,
        line_number,
        raw_text,
        -- 010/labels.txt: the user's folder
        split_part(file_name, '/', -2) as entity_id,
        timezone('UTC', try_strptime(trim(started), '%Y/%m/%d %H:%M:%S'))
            as started_at,
        timezone('UTC', try_strptime(trim(finished), '%Y/%m/%d %H:%M:%S'))
            as finished_at,
        nullif(lower(trim(mode)), '') as mode
    from labels

)

select
    *,
    case
        when started_at is null or finished_at is null or mode is null
            then 'label_malformed'
        -- bytes that are no text, or stand for none
        when regexp_matches(mode, '[[:cntrl:]]|\x{FFFD}') then 'label_malformed'
        when finished_at < started_at then 'label_backwards'
    end as rule
from typed
order by file_id, line_number
