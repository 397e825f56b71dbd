-- One row: how many visits train has, and their sizes. Durations are of stays whose end
-- was seen, travel is of ways that were seen, or each is of all where none was;
-- distances are from the centroid. The longest time is that of a window, from its first
-- arrival to its last end.
with

followed as (

    select
        duration_s,
        travel_s,
        is_censored,
        haversine_m($lon_deg, $lat_deg, lon_deg, lat_deg) as distance_m,
        is_way_seen,
        max(arrived_us + duration_s * 1e6) over (
            partition by entity_id
            order by visit_number
            rows between current row and $max_history following
        ) - arrived_us as elapsed_us
    from shard_visits
    where split = 'train'

)

select
    count(*) as num_visits,
    coalesce(
        quantile_disc(duration_s, [0.1, 0.5, 0.9]) filter (where not is_censored),
        quantile_disc(duration_s, [0.1, 0.5, 0.9])
    ) as duration_s,
    coalesce(
        quantile_disc(travel_s, [0.1, 0.5, 0.9]) filter (where is_way_seen),
        quantile_disc(travel_s, [0.1, 0.5, 0.9])
    ) as travel_s,
    quantile_disc(distance_m, [0.1, 0.5, 0.9]) as distance_m,
    max(distance_m) as max_distance_m,
    max(elapsed_us) / 1e6 as max_elapsed_s
from followed
