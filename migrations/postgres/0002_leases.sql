-- What may be stored but have no row yet is told by process, no longer by storing request: a request writes no row of its own.
drop table attempts;

-- A process that stores. While its lease lasts, objects whose keys carry its id may become instances; those that never did
-- are erased by the sweep once the lease has run out. Renewed by the process at intervals, removed by it when it left nothing.
create table leases (
    id text collate "C" primary key,
    started_at bigint not null,
    -- milliseconds by which it is renewed
    term bigint not null,
    expires_at bigint not null
);
