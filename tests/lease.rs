//! The lease under which a process stores: taken with the first instance, renewed, replaced when it is lost, given back.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use isocenter::archive::ingest::{Ingest, Ingestion};
use isocenter::archive::limits::IngestLimits;
use isocenter::archive::outcome::InstanceOutcome;
use isocenter::archive::policy::Policy;
use isocenter::config::{StorageSettings, StoreSettings};
use isocenter::store::ObjectStorage;

use crate::support::database::{Backend, TestDatabase};
use crate::support::generate::{Elements, Syntax};

const LEASES: &str = "select id from leases order by started_at, id";
/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(5);

async fn ingest(database: &TestDatabase, lease: Duration) -> Ingest {
    ingest_into(database, ObjectStorage::memory_with(&StorageSettings::default()), lease).await
}

async fn ingest_into(database: &TestDatabase, store: ObjectStorage, lease: Duration) -> Ingest {
    let policy = Policy::new(&StoreSettings::default()).unwrap();
    Ingest::new(database.open().await, store, IngestLimits { lease, ..IngestLimits::default() }, policy)
}

async fn begin(ingest: &Ingest) -> Ingestion {
    ingest.begin(None, "test".to_owned()).await.unwrap()
}

/// Stores an instance of its own.
async fn store(mut ingestion: Ingestion, instance: u32) -> InstanceOutcome {
    let file = Elements::ct("1.2", "1.2.1", &format!("1.2.1.{instance}")).part10(Syntax::Explicit);
    ingestion.instance(&mut stream::iter([Ok(Bytes::from(file))])).await.unwrap();
    ingestion.finish().await.remove(0)
}

fn is_stored(outcome: &InstanceOutcome) -> bool {
    matches!(outcome, InstanceOutcome::Stored { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn all_requests_of_a_process_store_under_one_lease_which_it_gives_back() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let database = TestDatabase::create(backend).await;
        let ingest = ingest(&database, LONG).await;
        assert!(database.query(LEASES).await.is_empty(), "nothing was stored yet");
        for instance in 0..3 {
            assert!(is_stored(&store(begin(&ingest).await, instance).await));
        }
        let leases = database.query(LEASES).await;
        assert_eq!(leases.len(), 1);
        let keys = database.query("select location from instances").await;
        let mark = leases[0].replace('-', "");
        assert!(keys.iter().all(|key| key.contains(&format!(".{mark}."))), "{keys:?}");
        ingest.close().await;
        assert!(database.query(LEASES).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_under_which_something_is_stored_still_is_not_given_back() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let ingest = ingest(&database, LONG).await;
    let unfinished = begin(&ingest).await;
    ingest.close().await;
    assert_eq!(database.query(LEASES).await.len(), 1, "left to run out");
    drop(unfinished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_its_process_lives() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let ingest = ingest(&database, Duration::from_millis(400)).await;
    drop(begin(&ingest).await);
    let renewed = "select 'x' from leases where expires_at > started_at + 3 * term";
    while database.query(renewed).await.is_empty() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_lost_its_lease_refuses_what_was_begun_under_it_and_takes_another() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let database = TestDatabase::create(backend).await;
        let ingest = ingest(&database, LONG).await;
        let begun = begin(&ingest).await;
        let lost = database.query(LEASES).await;
        database.execute("delete from leases").await;
        let outcome = store(begun, 1).await;
        let InstanceOutcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
        assert!(refusal.transient, "{refusal:?}");
        assert!(database.query("select sop_instance_uid from instances").await.is_empty());
        assert!(is_stored(&store(begin(&ingest).await, 1).await));
        let taken = database.query(LEASES).await;
        assert!(taken.len() == 1 && taken != lost, "{taken:?}");
    }
}

/// Makes each commit of an instance fail: a reference that is checked at the end of the transaction only.
fn failing_commits(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Sqlite => &[
            "create table target (id integer primary key)",
            "create table reference (id integer references target (id) deferrable initially deferred)",
            "create trigger break after insert on instances begin insert into reference values (1); end",
        ],
        Backend::Postgres => &[
            "create table target (id integer primary key)",
            "create table reference (id integer references target (id) deferrable initially deferred)",
            "create function break() returns trigger language plpgsql as \
             'begin insert into reference values (1); return null; end'",
            "create trigger break after insert on instances for each row execute function break()",
        ],
    }
}

/// Makes each insert of an instance fail.
fn failing_inserts(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Sqlite => {
            &["create trigger refuse before insert on instances begin select raise(abort, 'refused'); end"]
        }
        Backend::Postgres => &["alter table instances add constraint refuse check (size < 0) not valid"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_stay_only_after_a_commit_in_doubt_and_another_lease_follows() {
    for (backend, broken, in_doubt) in [
        (Backend::Sqlite, failing_commits(Backend::Sqlite), true),
        (Backend::Postgres, failing_commits(Backend::Postgres), true),
        (Backend::Sqlite, failing_inserts(Backend::Sqlite), false),
        (Backend::Postgres, failing_inserts(Backend::Postgres), false),
    ] {
        let database = TestDatabase::create(backend).await;
        let objects = ObjectStorage::memory_with(&StorageSettings::default());
        let ingest = ingest_into(&database, objects.clone(), LONG).await;
        drop(begin(&ingest).await);
        let before = database.query(LEASES).await;
        for statement in broken {
            database.execute(statement).await;
        }
        let outcome = store(begin(&ingest).await, 1).await;
        let InstanceOutcome::Refused(refusal) = outcome else { panic!("{backend:?}: {outcome:?}") };
        assert!(refusal.transient, "{refusal:?}");
        assert!(database.query("select sop_instance_uid from instances").await.is_empty(), "{backend:?}");
        let left: Vec<_> = objects.list("").try_collect().await.unwrap();
        assert_eq!(left.len(), usize::from(in_doubt), "{backend:?} {in_doubt}");
        drop(begin(&ingest).await);
        let after = database.query(LEASES).await;
        assert_eq!(after.len(), before.len() + usize::from(in_doubt), "{backend:?} {in_doubt}");
        ingest.close().await;
        let left = if in_doubt { before } else { Vec::new() };
        assert_eq!(database.query(LEASES).await, left, "the one in doubt is left to run out");
    }
}
