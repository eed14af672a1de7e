//! What an error of the database means: away or full for now, worth another try, or a defect.

use std::error::Error as _;

use crate::error::{Error, ErrorKind};

/// What clients are told when the database is away, full or too slow.
const UNAVAILABLE: &str = "the index database is unavailable";

/// An error of the database as one of ours.
pub(super) fn convert(error: sqlx::Error) -> Error {
    match meaning(&error) {
        Meaning::Away | Meaning::Conflict => Error::unavailable(UNAVAILABLE, error),
        Meaning::Damaged => Error::internal("the index database is damaged").caused_by(error),
        Meaning::Defect => Error::internal("the index database refused a statement").caused_by(error),
    }
}

/// A time limit of our own ran out.
pub(super) fn timed_out(what: &'static str) -> Error {
    Error::unavailable(UNAVAILABLE, what)
}

/// Whether the transaction may well succeed when run again from the start.
pub(super) fn is_conflict(error: &Error) -> bool {
    let Some(source) = error.source() else { return false };
    if source.is::<Raced>() {
        return true;
    }
    source.downcast_ref::<sqlx::Error>().is_some_and(|error| matches!(meaning(error), Meaning::Conflict))
}

/// Whether a row that is visible already stands in the way of another.
pub(super) fn is_unique_violation(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<sqlx::Error>());
    source.and_then(sqlx::Error::as_database_error).is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Whether a batch alone might fare better than in company: not when the database as a whole is away.
pub(super) fn is_of_the_batch(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Unavailable => is_conflict(error),
        _ => true,
    }
}

/// Another process stored one of the instances between our look and our insert.
#[derive(Debug, thiserror::Error)]
#[error("another process stored one of the instances at the same time")]
pub(super) struct Raced;

impl Raced {
    pub(super) fn error() -> Error {
        Error::unavailable(UNAVAILABLE, Self)
    }
}

enum Meaning {
    Away,
    Conflict,
    Damaged,
    Defect,
}

fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Meaning::Away,
        sqlx::Error::Database(error) => {
            let code = error.code();
            let code = code.as_deref().unwrap_or_default();
            if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() { sqlite(code) } else { postgres(code) }
        }
        _ => Meaning::Defect,
    }
}

/// Another connection to a file of SQLite holds a lock.
const BUSY: i32 = 5;

/// Whether another connection to a file of SQLite holds a lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let error =
        error.as_database_error().filter(|error| error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some());
    error.and_then(sqlx::error::DatabaseError::code).and_then(|code| primary(&code)) == Some(BUSY)
}

fn primary(code: &str) -> Option<i32> {
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

/// [Result codes](https://www.sqlite.org/rescode.html): the lowest byte is the primary one.
fn sqlite(code: &str) -> Meaning {
    const LOCKED: i32 = 6;
    const NO_MEMORY: i32 = 7;
    const READ_ONLY: i32 = 8;
    const INTERRUPTED: i32 = 9;
    const IO: i32 = 10;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    const NOT_A_DATABASE: i32 = 26;
    match primary(code) {
        Some(BUSY | LOCKED | NO_MEMORY | READ_ONLY | INTERRUPTED | IO | FULL | CANNOT_OPEN) => Meaning::Away,
        Some(CORRUPT | NOT_A_DATABASE) => Meaning::Damaged,
        _ => Meaning::Defect,
    }
}

/// [Error codes](https://www.postgresql.org/docs/current/errcodes-appendix.html): the first two characters are the class.
fn postgres(code: &str) -> Meaning {
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Meaning::Conflict,
        // read_only_sql_transaction (a standby), lock_not_available, crash_shutdown and the like come by class below
        "25006" | "55P03" => Meaning::Away,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => Meaning::Damaged,
        // connection exception, insufficient resources, operator intervention (timeouts and shutdown), system error
        _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => Meaning::Away,
        _ => Meaning::Defect,
    }
}
