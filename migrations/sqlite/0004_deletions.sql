-- What was deleted: it can be taken back until it is erased, and a request for it is told that it is gone ever after.
create table deletions (
    id integer primary key autoincrement,
    -- of the object that tells of the deletion when the index is lost
    uuid text not null unique,
    partition_id integer not null references partitions (id),
    study_uid text not null,
    -- null: the whole study
    series_uid text,
    -- null: the whole series
    sop_instance_uid text,
    deleted_at integer not null,
    who text not null,
    reason text not null
) strict;
create index deletions_study on deletions (partition_id, study_uid);
create index deletions_series on deletions (partition_id, series_uid) where series_uid is not null;
create index deletions_instance on deletions (partition_id, sop_instance_uid) where sop_instance_uid is not null;

-- `hidden` is 0 visible, 1 deleted, 2 replaced and to be erased, 3 an older version that is kept, 4 being erased
alter table instances add column hidden_at integer;
alter table instances add column deletion_id integer references deletions (id);
create index instances_hidden on instances (hidden, hidden_at) where hidden <> 0;
create index instances_deletion on instances (deletion_id) where deletion_id is not null;
