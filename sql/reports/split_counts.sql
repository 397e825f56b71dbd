-- One row: entities, their groups, copies, and the trips that were left out or cut.
select
    count(*) as entities,
    count(distinct content_group) as content_groups,
    (select count(*) from int_trips_copied) as copied_trip_pairs,
    (select count(*) from int_entities_continued) as continued_entity_pairs,
    (
        select count(*) from trips anti join split using (trip_id)
    ) as trips_left_out,
    (
        select count(*) from split
        where split.part_id != split.trip_id
    ) as parts_of_cut_trips
from int_content_groups
