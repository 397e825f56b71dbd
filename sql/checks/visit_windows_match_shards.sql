-- Each stored window of visits lies in a row of its split, and its last visit is the
-- one that is asked for.
select windows.visit_window_id
from visit_windows as windows
left join visit_shards as shards using (entity_id, split)
left join region_visits as visits using (entity_id, split, visit_id)
where not coalesce(
    shards.arrived_us[windows.start + windows.num_visits] = epoch_us(visits.arrived_at),
    false
)
