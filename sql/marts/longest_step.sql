-- One row: the longest step of a window that is judged, told by the steps of train
-- alone: $factor times their quantile, whatever their order.
with

steps_of_train as (

    select steps.step_s
    from steps
    inner join split
        on
            steps.trip_id = split.trip_id
            and (split.from_at is null or steps.tracked_at > split.from_at)
            and (split.until_at is null or steps.tracked_at < split.until_at)
    where split.split = 'train'

)

select quantile_disc(step_s, $quantile) * $factor as longest_step_s
from steps_of_train
