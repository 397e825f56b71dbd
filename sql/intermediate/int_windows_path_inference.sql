-- One row per window of path inference: both ends are observed. What a model is only
-- judged on is stored of validation and test alone.
select
    *,
    'path_inference' as task,
    'ends' as mask,
    list_transform(
        range(0, num_points), lambda place: place in (0, num_points - 1)
    ) as is_observed
from int_windows_named
where split != 'train'
