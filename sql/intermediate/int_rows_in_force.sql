-- One row per row of a bucket, from those files of each part that are in force.
with

in_force as (

    select
        unnest($part_paths) as part_path,
        unnest($file_ids) as file_id

),

stored as (

    select *
    from
        read_parquet(
            $paths,
            union_by_name = true,
            hive_partitioning = false,
            filename = 'part_path'
        )

)

select stored.* exclude (part_path)
from stored
semi join in_force using (part_path, file_id)
