//! The index database: SQLite or PostgreSQL by URL, one schema, the only SQL of the server.
//!
//! A row is the only proof that an instance exists, so it is written in one transaction after the bytes are durable
//! ([`Catalogue::insert_instances`]). SQLite has one connection that writes, and what waits for it is committed together;
//! PostgreSQL has a pool. No type of sqlx leaves this module.

mod agreeing;
mod columns;
mod conditions;
mod connect;
mod database;
mod deletions;
mod dialect;
mod earlier;
mod erasing;
mod failure;
mod hidden;
mod insert;
mod inspect;
mod instances;
mod leases;
mod left;
mod metadata;
mod migrate;
mod postgres;
mod restoring;
mod rows;
pub mod search;
mod search_plan;
mod sql;
mod storing;
mod telling;
mod transaction;
mod upsert;
mod writer;

use std::sync::Arc;

use database::{Database, Pools};
use failure::convert;
use sqlx::Executor as _;

use crate::config::{DatabaseSettings, DatabaseUrl};
use crate::error::Result;

pub use agreeing::{Settled, Standing, Verdict};
pub use deletions::{Deletable, Deletion, Hid};
pub use erasing::DeletionId;
pub use insert::{Inserted, NewInstance, NotInserted, Occasion, Patient, Rules};
pub use inspect::{IndexedRow, RowParts, RowRange};
pub use instances::{InstanceId, InstanceMetadata, InstanceRow};
pub use leases::{EndedLease, Work, taken_at};
pub use left::{Left, LeftObject};
pub use migrate::Migrated;
pub use restoring::{Restorable, Restored};
pub use writer::Coming;

/// The row that the first migration inserts into `partitions`; there are no others until there are tenants.
const MAIN_PARTITION: i64 = 1;

/// The index. Cheap to clone.
#[derive(Clone)]
pub struct Catalogue(Arc<Inner>);

struct Inner {
    database: Database,
    dictionaries: metadata::Dictionaries,
    /// The queue of SQLite's one writer.
    writer: Option<writer::Queue>,
}

impl Catalogue {
    /// Connects. The calling runtime drives the connections from then on, so it must be the one that outlives all others.
    ///
    /// A SQLite file is created when missing. Nothing is migrated: see [`Catalogue::migrate`].
    ///
    /// # Errors
    /// `Configuration` with what to do: unreachable, refused, not writable, not UTF-8, of a newer version.
    pub async fn open(url: &DatabaseUrl, settings: &DatabaseSettings) -> Result<Self> {
        Self::over(connect::connect(url, settings).await?).await
    }

    /// Connects to read only, also where nothing may be written: a file of SQLite on a volume that is mounted so, or whose
    /// permissions are such.
    ///
    /// # Errors
    /// As [`Catalogue::open`].
    pub async fn open_to_read(url: &DatabaseUrl, settings: &DatabaseSettings) -> Result<Self> {
        Self::over(connect::connect_to_read(url, settings).await?).await
    }

    async fn over(database: Database) -> Result<Self> {
        migrate::check_version(&database).await?;
        let dictionaries = metadata::Dictionaries::default();
        let writer = match &database.pools {
            Pools::Sqlite { .. } => Some(writer::start(&database, dictionaries.clone())),
            Pools::Postgres(_) => None,
        };
        Ok(Self(Arc::new(Inner { database, dictionaries, writer })))
    }

    /// Refuses an address that nothing could be reached by.
    ///
    /// # Errors
    /// `Configuration` with what to write instead.
    pub fn check(url: &DatabaseUrl) -> Result<()> {
        connect::check(url)
    }

    /// Whether the database answers, and with SQLite whether it can be written.
    ///
    /// # Errors
    /// `Unavailable` when it does not.
    pub async fn ping(&self) -> Result<()> {
        self.0.database.read_all(sql::Statement::new("select 1")).await?;
        if let Pools::Sqlite { writer, .. } = &self.0.database.pools {
            // finds out about a lock, a full disk and a file that is read-only
            let write = "update partitions set name = name where id = 1";
            writer.execute(write).await.map_err(convert)?;
        }
        Ok(())
    }

    /// The storage keys of some objects that are there, as far as the index knows; none if there are no instances.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn some_objects(&self, most: i64) -> Result<Vec<String>> {
        let some = sql::Statement::new("select location from instances where hidden <> 4 limit $1").with(most);
        let rows = self.0.database.read_all(some).await?;
        rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
    }

    /// Closes all connections, when what is under way has ended.
    pub async fn close(&self) {
        self.0.database.close().await;
    }

    /// The connections, for the files of this module that read.
    pub(in crate::catalogue) fn database(&self) -> &Database {
        &self.0.database
    }
}
