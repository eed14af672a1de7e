-- A lease that ran out and that a sweep took: its row moves here from `leases`, so that nothing can be stored under it any
-- more, and goes when the sweep has removed the objects under it that have no row.
create table lapsed_leases (
    id text primary key,
    lapsed_at integer not null
) strict, without rowid;

-- a sweep asks for rows by the UIDs that stand in storage keys; most are visible and found by `instances_visible_uid`
create index instances_hidden_uid on instances (partition_id, sop_instance_uid) where hidden <> 0;
