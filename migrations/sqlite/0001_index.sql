-- The index of the archive. The same tables, columns and names as in migrations/postgres; the types differ.
-- Ids of studies, series, instances and dictionaries are never used again (autoincrement), since caches hold on to them.
-- Times of the server are milliseconds since 1970-01-01 UTC; times of day are microseconds since midnight; dates are YYYYMMDD.

create table partitions (
    id integer primary key,
    name text not null unique
) strict;
insert into partitions (name) values ('main');

-- A storing request that is under way. The sweep erases what it left once the lease has expired.
create table attempts (
    attempt text primary key,
    started_at integer not null,
    -- milliseconds by which each commit renews it
    lease integer not null,
    lease_until integer not null
) strict, without rowid;
create index attempts_lease on attempts (lease_until);

create table studies (
    id integer primary key autoincrement,
    partition_id integer not null references partitions (id),
    study_uid text not null,
    patient_id text,
    patient_name text,
    patient_name_ideographic text,
    patient_name_phonetic text,
    patient_birth_date text,
    patient_sex text,
    study_date text,
    study_time integer,
    accession_number text,
    study_id text,
    study_description text,
    referring_physician_name text,
    referring_physician_name_ideographic text,
    referring_physician_name_phonetic text,
    -- the distinct modalities of its series, ascending, joined by backslashes
    modalities text not null default '',
    series_count integer not null default 0,
    instance_count integer not null default 0,
    -- attributes of patient and study level as DICOM JSON by tag (dicom::entry::AttributeSet)
    attributes blob not null,
    created_at integer not null,
    updated_at integer not null,
    unique (partition_id, study_uid)
) strict;
-- the order of answers: newest first, without date last, then by UID
create index studies_order on studies (partition_id, coalesce(study_date, '') desc, coalesce(study_time, -1) desc, study_uid);
create index studies_patient_id on studies (partition_id, patient_id);
create index studies_patient_name on studies (partition_id, patient_name);
create index studies_patient_name_ideographic on studies (partition_id, patient_name_ideographic)
    where patient_name_ideographic is not null;
create index studies_patient_name_phonetic on studies (partition_id, patient_name_phonetic)
    where patient_name_phonetic is not null;
create index studies_accession_number on studies (partition_id, accession_number);

-- JSON against which the metadata of a series' instances is compressed: that of its first instance, compressed by itself; immutable.
-- The id is that of the series.
create table metadata_dictionaries (
    id integer primary key,
    content blob not null
) strict;

create table series (
    id integer primary key autoincrement,
    study_id integer not null references studies (id),
    series_uid text not null,
    -- counts up with every change of the series or its instances
    version integer not null default 0,
    modality text,
    series_number integer,
    series_description text,
    body_part_examined text,
    series_date text,
    series_time integer,
    performed_procedure_step_start_date text,
    performed_procedure_step_start_time integer,
    instance_count integer not null default 0,
    attributes blob not null,
    dictionary_id integer references metadata_dictionaries (id),
    created_at integer not null,
    updated_at integer not null,
    unique (study_id, series_uid)
) strict;
create index series_uid on series (series_uid);
create index series_modality on series (modality, study_id);

create table instances (
    id integer primary key autoincrement,
    partition_id integer not null references partitions (id),
    study_id integer not null references studies (id),
    series_id integer not null references series (id),
    sop_instance_uid text not null,
    -- 1 for the first content under this UID
    version integer not null default 1,
    hidden integer not null default 0,
    sop_class_uid text not null,
    instance_number integer,
    transfer_syntax_uid text not null,
    -- how the data set is encoded: explicit, implicit, big, deflated
    encoding text not null,
    -- part10, no-preamble, bare
    form text not null,
    -- the storage key of the object
    location text not null,
    size integer not null,
    digest blob not null,
    received_digest blob not null,
    received_at integer not null,
    -- who sent it and how
    source text not null,
    file_name text,
    number_of_frames integer not null,
    attributes blob not null,
    dictionary_id integer references metadata_dictionaries (id),
    -- DICOM JSON, zstd against the dictionary
    metadata blob not null,
    -- dicom::frames::StoredFrames::head
    frames blob not null,
    -- where the values named by BulkDataURIs lie (dicom::json::BulkIndex)
    bulk blob not null
) strict;
create unique index instances_visible_uid on instances (partition_id, sop_instance_uid) where hidden = 0;
create index instances_series on instances (series_id, coalesce(instance_number, 9223372036854775807), sop_instance_uid);
create index instances_study on instances (study_id);

-- dicom::frames::StoredFrames::blocks
create table frame_blocks (
    instance_id integer not null references instances (id),
    block integer not null,
    frames blob not null,
    primary key (instance_id, block)
) strict, without rowid;
