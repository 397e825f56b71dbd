-- The normaliser counts the steps of the training split, and no other.
with

train as (

    select coalesce(sum(len(step_s) - 1), 0) as num_steps
    from shards
    where split = 'train'

)

select
    normaliser.num_steps,
    train.num_steps as num_train_steps
from normaliser
cross join train
where normaliser.num_steps != train.num_steps
