-- Objects that `reindex` read and gave no row: sweeps remove those that nothing needs, full sweeps the others too. An object without
-- a row that is neither here nor under a lease that ran out shows that the index is older than the objects.
create table left_objects (
    location text collate "C" primary key,
    -- 1: a copy that nothing needs; 2: of another content than the instance has; 3: no instance; 4: damaged;
    -- 5: not read
    kind bigint not null,
    bytes bigint not null,
    left_at bigint not null
);
