-- What took deletions back: events of the archive are in the order of their ids, so a new one has a later id than all that are known.
create table restores (
    uuid text not null primary key
) strict;
