//! Objects that `reindex` read and gave no row, so that sweeps know them from those that the index has never heard of.

use std::collections::HashSet;

use uuid::Uuid;

use super::sql::{Row, Statement};
use super::{Catalogue, MAIN_PARTITION};
use crate::clock;
use crate::dicom::uid::InstanceUid;
use crate::error::{Error, Result};

/// An object that was left without a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftObject {
    /// Its storage key.
    pub location: String,
    /// Its size.
    pub bytes: u64,
    /// Why.
    pub kind: Left,
}

/// Why an object was left without a row. The numbers stand in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Its content has a row, or a later one took its place.
    Needless = 1,
    /// The instance has another content.
    Different = 2,
    /// It is no instance.
    Useless = 3,
    /// It has other bytes than were stored.
    Damaged = 4,
    /// It could not be read.
    Unread = 5,
}

impl LeftObject {
    /// The statement that notes it.
    pub(super) fn note(&self) -> Statement {
        let text = "insert into left_objects (location, kind, bytes, left_at) values ($1, $2, $3, $4) \
                    on conflict (location) do update set kind = excluded.kind, left_at = excluded.left_at";
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        let statement = Statement::new(text).with(self.location.as_str()).with(self.kind as i64);
        statement.with(bytes).with(clock::unix_millis())
    }
}

impl Left {
    fn of(number: i64) -> Self {
        match number {
            1 => Self::Needless,
            2 => Self::Different,
            3 => Self::Useless,
            4 => Self::Damaged,
            // nothing is removed for a reason that is not known
            _ => Self::Unread,
        }
    }
}

fn left_object(row: &Row) -> Result<LeftObject> {
    Ok(LeftObject { location: row.text(0)?.to_owned(), kind: Left::of(row.integer(1)?), bytes: row.count(2)? })
}

impl Catalogue {
    /// Forgets all that were left: `reindex` judges anew.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn forget_all_left(&self) -> Result<()> {
        self.database().write(Statement::new("delete from left_objects")).await.map(drop)
    }

    /// Notes objects that are left without a row.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn leave(&self, objects: &[LeftObject]) -> Result<()> {
        let inserts: Vec<Statement> = objects.iter().map(LeftObject::note).collect();
        self.transact(move |transaction| {
            let inserts = inserts.clone();
            Box::pin(async move {
                transaction.fetch_each(inserts).await?;
                Ok((true, ()))
            })
        })
        .await
    }

    /// Which of these are left.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn are_left(&self, locations: Vec<String>) -> Result<HashSet<String>> {
        let any = self.database().dialect().any(1);
        let statement = Statement::new(format!("select location from left_objects where location {any}"));
        let rows = self.database().read_all(statement.with(locations)).await?;
        rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
    }

    /// Those that are left below a path of digits, dots and slashes.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn left_below(&self, path: &str) -> Result<Vec<LeftObject>> {
        // a colon comes after digits, dots and slashes
        let text = "select location, kind, bytes from left_objects where location >= $1 and location < $2";
        let rows = self.database().read_all(Statement::new(text).with(path).with(format!("{path}:"))).await?;
        rows.iter().map(left_object).collect()
    }

    /// Whether the index has heard of one of these objects, each with its storage key, its instance and its lease: a row names
    /// it, it is left, or its lease is held or ran out.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn has_heard_of_any(&self, objects: &[(String, InstanceUid, Uuid)]) -> Result<bool> {
        let instances = objects.iter().map(|(_, instance, _)| instance.clone()).collect();
        let keys: Vec<String> = objects.iter().map(|(key, ..)| key.clone()).collect();
        let leases: HashSet<Uuid> = objects.iter().map(|(.., lease)| *lease).collect();
        let named = self.locations_of(&instances).await?;
        Ok(keys.iter().any(|key| named.contains(key))
            || !self.are_left(keys).await?.is_empty()
            || !self.leases_held(&leases).await?.is_empty()
            || self.lapsed_leases().await?.iter().any(|ended| leases.contains(&ended.id)))
    }

    /// Those that were read and left before a time, by location after one: the needless ones, or all.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn left(&self, all: bool, before: i64, after: &str, most: i64) -> Result<Vec<LeftObject>> {
        let text = "select location, kind, bytes from left_objects where kind <= $1 and left_at <= $2 and location > $3 \
                    order by location limit $4";
        let most_kind = if all { Left::Damaged } else { Left::Needless };
        let statement = Statement::new(text).with(most_kind as i64).with(before).with(after).with(most);
        let rows = self.database().read_all(statement).await?;
        rows.iter().map(left_object).collect()
    }

    /// The objects that rows under a SOP Instance UID name, hidden ones included, with their sizes and digests.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn objects_of(&self, instance: &InstanceUid) -> Result<Vec<(String, u64, [u8; 32])>> {
        let mut found = Vec::new();
        // visible and hidden rows have an index each
        for half in ["hidden = 0", "hidden <> 0 and hidden <> 4"] {
            let text = format!(
                "select location, size, digest from instances where partition_id = $1 and sop_instance_uid = $2 and {half}"
            );
            let statement = Statement::new(text).with(MAIN_PARTITION).with(instance.as_str());
            for row in self.database().read_all(statement).await? {
                let digest = row.bytes(2)?.try_into();
                let digest = digest.map_err(|_| Error::internal("a digest in the index is damaged"))?;
                found.push((row.text(0)?.to_owned(), row.count(1)?, digest));
            }
        }
        Ok(found)
    }

    /// Forgets objects that are gone, or that have rows by now.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn forget_left(&self, locations: Vec<String>) -> Result<()> {
        let any = self.database().dialect().any(1);
        let statement = Statement::new(format!("delete from left_objects where location {any}"));
        self.database().write(statement.with(locations)).await.map(drop)
    }
}
