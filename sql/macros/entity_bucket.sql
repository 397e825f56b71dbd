-- The file, counted from 0, in which all rows of an entity stand.
-- MD5 never changes between versions, as the engine's own hash may.
create or replace macro entity_bucket(entity_id, num_buckets) as
('0x' || left(md5(entity_id), 8))::bigint % num_buckets
