-- One row per point that is not kept, with the first rule that it breaks.
with

screened as (

    select
        screened.point_id,
        screened.file_id,
        screened.line_number,
        screened.rule
    from int_points_screened as screened
    where screened.rule is not null

),

stale as (

    select
        screened.point_id,
        screened.file_id,
        screened.line_number,
        'stale_position' as rule
    from int_points_screened as screened
    semi join int_points_stale using (point_id)

),

unreached as (

    select
        tracked.point_id,
        tracked.file_id,
        tracked.line_number,
        'impossible_speed' as rule
    from int_points_tracked as tracked
    anti join int_points_reached using (point_id)

),

short as (

    select
        tripped.point_id,
        tripped.file_id,
        tripped.line_number,
        'short_trip' as rule
    from int_points_tripped as tripped
    anti join int_trips using (first_point_id)

),

rejects as (

    select * from screened
    union all
    select * from stale
    union all
    select * from unreached
    union all
    select * from short

)

select * from rejects
order by file_id, line_number, point_id
