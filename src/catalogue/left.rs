//! Objects that `reindex` read and gave no row, so that sweeps know them from those that the index has never heard of.

use std::collections::HashSet;

use uuid::Uuid;

use super::Catalogue;
use super::sql::Statement;
use crate::clock;
use crate::error::Result;

/// An object that was left without a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftObject {
    /// Its storage key.
    pub location: String,
    /// Its size.
    pub bytes: u64,
    /// It is a copy that nothing needs: the content has a row, or a later one took its place.
    pub needless: bool,
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
        let text = "insert into left_objects (location, needless, bytes, left_at) values ($1, $2, $3, $4) \
                    on conflict (location) do update set needless = excluded.needless, left_at = excluded.left_at";
        let now = clock::unix_millis();
        let insert = |one: &LeftObject| {
            let bytes = i64::try_from(one.bytes).unwrap_or(i64::MAX);
            Statement::new(text).with(one.location.as_str()).with(i64::from(one.needless)).with(bytes).with(now)
        };
        let inserts: Vec<Statement> = objects.iter().map(insert).collect();
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

    /// Whether the index has heard of an object, although no row names it: it is left, or its lease is held or ran out.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn has_heard_of(&self, location: &str, lease: Uuid) -> Result<bool> {
        let statement = Statement::new(
            "select location from left_objects where location = $1 union all select id from leases where id = $2 \
             union all select id from lapsed_leases where id = $3",
        );
        let (lease, again) = (lease.to_string(), lease.to_string());
        let row = self.database().read_all(statement.with(location).with(lease).with(again)).await?;
        Ok(!row.is_empty())
    }

    /// Those that were left before a time, by location after one: the needless ones, or all.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn left(&self, all: bool, before: i64, after: &str, most: i64) -> Result<Vec<LeftObject>> {
        let text = "select location, needless, bytes from left_objects where needless >= $1 and left_at <= $2 and location > $3 \
                    order by location limit $4";
        let statement = Statement::new(text).with(i64::from(!all)).with(before).with(after).with(most);
        let rows = self.database().read_all(statement).await?;
        let left = rows.iter().map(|row| {
            Ok(LeftObject { location: row.text(0)?.to_owned(), needless: row.integer(1)? == 1, bytes: row.count(2)? })
        });
        left.collect()
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
