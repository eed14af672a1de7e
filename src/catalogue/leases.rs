//! Leases: a row for each process that stores, so that a sweep knows which objects may still become instances.
//!
//! A sweep takes a lease that has run out by moving its row to `lapsed_leases`. A commit reads the row of its lease under a
//! lock that such a move waits for, and finds none afterwards. The lapsed lease stays known until what was left under it is
//! removed, however often a sweep is cut off.
//!
//! Sweeps and runs of `reindex` hold leases too, under which nothing is stored: neither is done beside the other. That of a run
//! of `reindex` that was cut off lapses too, and is known until a run comes to its end.

use std::collections::HashSet;
use std::time::Duration;

use uuid::{Builder, Uuid};

use super::Catalogue;
use super::dialect::Dialect;
use super::insert::NotInserted;
use super::sql::{Row, Statement};
use crate::error::{Error, Result};

/// A lease that is over, but under which objects without a row may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedLease {
    /// Which.
    pub id: Uuid,
    /// When it ran out as far as this index knows, in milliseconds since 1970-01-01 UTC by the clock of its process: what was
    /// received under it later came after a renewal of which this index knows nothing.
    pub until: i64,
}

impl EndedLease {
    /// It was held by a sweep or a run of `reindex`: nothing was stored under it.
    #[must_use]
    pub fn is_of_work(&self) -> bool {
        is_of_work(&self.id)
    }
}

/// Of another version than the leases under which processes store.
fn is_of_work(lease: &Uuid) -> bool {
    lease.get_version_num() == 8
}

/// What goes through all objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It removes objects that no row names.
    Sweep,
    /// It makes rows for them.
    Reindex,
}

impl Work {
    /// How the ids of its leases begin.
    fn mark(self) -> &'static [u8] {
        match self {
            Self::Sweep => b"swee",
            Self::Reindex => b"rein",
        }
    }

    /// The id of a lease for it: of another version than those of the leases under which processes store.
    #[must_use]
    pub fn new_lease(self) -> Uuid {
        let mut bytes = Uuid::new_v4().into_bytes();
        for (byte, mark) in bytes.iter_mut().zip(self.mark()) {
            *byte = *mark;
        }
        Builder::from_custom_bytes(bytes).into_uuid()
    }

    fn holds(self, lease: &Uuid) -> bool {
        is_of_work(lease) && lease.as_bytes().starts_with(self.mark())
    }
}

/// When a lease was taken by the clock of its process, in milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn taken_at(lease: Uuid) -> Option<i64> {
    let (seconds, nanos) = lease.get_timestamp()?.to_unix();
    let millis = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    Some(millis.saturating_add(i64::from(nanos / 1_000_000)))
}

/// By so many milliseconds the clocks of a process and of the database count as the same: the database is asked a moment after the
/// id of a lease was made.
const CLOCKS: i64 = 60_000;

/// [`EndedLease::until`], by the times of the database: the id tells how far the clock of the process was behind or ahead.
/// Receipts carry the times of that clock.
fn until(id: Uuid, started_at: i64, expires_at: i64) -> i64 {
    let lasted = expires_at.saturating_sub(started_at);
    let by_its_clock = taken_at(id).map(|taken| taken.saturating_add(lasted));
    by_its_clock.map_or(expires_at, |until| expires_at.clamp(until, until.saturating_add(CLOCKS)))
}

impl Catalogue {
    /// Registers a process before the first byte that it stores. Objects whose keys carry the id of the lease are safe from the
    /// sweep for `term` by the database's clock, so that it must be renewed.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn take_lease(&self, id: Uuid, term: Duration) -> Result<()> {
        let now = self.0.database.dialect().now_millis();
        let text = format!("insert into leases (id, started_at, term, expires_at) values ($1, {now}, $2, {now} + $2)");
        self.0.database.write(Statement::new(text).with(id.to_string()).with(millis(term))).await.map(drop)
    }

    /// Renews a lease by its term; false when it is gone, so that nothing can be stored under it any more.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn renew_lease(&self, id: Uuid) -> Result<bool> {
        let now = self.0.database.dialect().now_millis();
        let text = format!("update leases set expires_at = {now} + term where id = $1");
        self.0.database.write(Statement::new(text).with(id.to_string())).await.map(|renewed| renewed > 0)
    }

    /// Gives a lease back, under which no object without a row is left.
    ///
    /// # Errors
    /// `Unavailable` when the database is; the lease then runs out by itself.
    pub async fn end_lease(&self, id: Uuid) -> Result<()> {
        self.0.database.write(Statement::new("delete from leases where id = $1").with(id.to_string())).await.map(drop)
    }
}

/// What a sweep asks for and does.
impl Catalogue {
    /// The leases that ran out so long ago at least, but are still held: their processes may renew them.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn expired_leases(&self, ago: Duration) -> Result<Vec<EndedLease>> {
        let now = self.0.database.dialect().now_millis();
        let text = format!("select id, started_at, expires_at from leases where expires_at <= {now} - $1 order by id");
        let rows = self.0.database.read_all(Statement::new(text).with(millis(ago))).await?;
        rows.iter().map(expired).collect()
    }

    /// Whether a lease for such work is there, be it run out: its process may renew it until it is taken.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn under_way(&self, work: Work) -> Result<bool> {
        self.is_under_way_beside(work, Uuid::nil()).await
    }

    /// The same, but for one lease.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn is_under_way_beside(&self, work: Work, own: Uuid) -> Result<bool> {
        let leases = ids(&self.0.database.read_all(Statement::new("select id from leases")).await?)?;
        Ok(leases.iter().any(|lease| *lease != own && work.holds(lease)))
    }

    /// Whether a run of `reindex` was cut off and none has come to its end since: the index may know half of a study.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn was_reindex_cut_off(&self) -> Result<bool> {
        Ok(self.lapsed_leases().await?.iter().any(|ended| Work::Reindex.holds(&ended.id)))
    }

    /// Takes an own lease of which the work was cut off.
    ///
    /// # Errors
    /// `Unavailable` when the database is; the lease then runs out by itself.
    pub async fn abandon_lease(&self, id: Uuid) -> Result<()> {
        let run_out = Statement::new("update leases set expires_at = 0 where id = $1").with(id.to_string());
        self.0.database.write(run_out).await?;
        self.lapse_lease(id).await.map(drop)
    }

    /// Takes a lease that has run out, unless it was renewed or given back meanwhile: nothing is stored under it from then on.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn lapse_lease(&self, id: Uuid) -> Result<bool> {
        let database = self.0.database.clone();
        let lapse = async move {
            let now = database.dialect().now_millis();
            let take = format!(
                "delete from leases where id = $1 and expires_at <= {now} returning id, started_at, expires_at"
            );
            let mut transaction = database.begin().await?;
            let taken = transaction.fetch_each(vec![Statement::new(take).with(id.to_string())]).await?;
            let Some(row) = taken.iter().flatten().next() else { return Ok(false) };
            let EndedLease { id, until } = expired(row)?;
            let keep = "insert into lapsed_leases (id, lapsed_at) values ($1, $2) on conflict (id) do nothing";
            let keep = Statement::new(keep).with(id.to_string()).with(until).into();
            // nothing is stored under that of a sweep
            let keep = if Work::Sweep.holds(&id) { Vec::new() } else { vec![keep] };
            transaction.commit_with(keep).await.map_err(NotInserted::into_error)?;
            Ok(true)
        };
        self.0.database.spawn(lapse).await
    }

    /// The leases that were taken from their processes and under which objects without a row may be left, and those of runs of
    /// `reindex` that were cut off.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn lapsed_leases(&self) -> Result<Vec<EndedLease>> {
        let statement = Statement::new("select id, lapsed_at from lapsed_leases order by id");
        let rows = self.0.database.read_all(statement).await?;
        rows.iter().map(|row| Ok(EndedLease { id: id(row)?, until: row.integer(1)? })).collect()
    }

    /// Forgets a lapsed lease under which nothing without a row is left.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn forget_lapsed_lease(&self, id: Uuid) -> Result<()> {
        let statement = Statement::new("delete from lapsed_leases where id = $1").with(id.to_string());
        self.0.database.write(statement).await.map(drop)
    }

    /// Which of these leases are held. What is not held now will never be again: rows that are asked for afterwards are all
    /// that name objects under it.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn leases_held(&self, leases: &HashSet<Uuid>) -> Result<HashSet<Uuid>> {
        let leases: Vec<String> = leases.iter().map(Uuid::to_string).collect();
        let statement = Statement::new(format!("select id from leases where id {}", self.0.database.dialect().any(1)));
        let rows = self.0.database.read_all(statement.with(leases)).await?;
        Ok(ids(&rows)?.into_iter().collect())
    }
}

fn id(row: &Row) -> Result<Uuid> {
    Uuid::try_parse(row.text(0)?).map_err(|error| Error::internal("a lease in the index is damaged").caused_by(error))
}

fn ids(rows: &[Row]) -> Result<Vec<Uuid>> {
    rows.iter().map(id).collect()
}

/// Of id, start and end.
fn expired(row: &Row) -> Result<EndedLease> {
    let id = id(row)?;
    Ok(EndedLease { id, until: until(id, row.integer(1)?, row.integer(2)?) })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Which of these leases are held. The sweep cannot take one of them until the transaction has ended.
pub(super) fn held(dialect: Dialect, leases: Vec<String>) -> Statement {
    let lock = match dialect {
        // who writes has the database for itself
        Dialect::Sqlite => "",
        Dialect::Postgres => " for key share",
    };
    Statement::new(format!("select id from leases where id {}{lock}", dialect.any(1))).with(leases)
}

#[cfg(test)]
mod tests {
    use uuid::{ContextV7, Timestamp};

    use super::*;

    #[test]
    fn what_a_lease_is_for_is_seen_by_its_id() {
        for (work, other) in [(Work::Sweep, Work::Reindex), (Work::Reindex, Work::Sweep)] {
            let lease = work.new_lease();
            assert!(work.holds(&lease) && !other.holds(&lease) && lease != work.new_lease());
            assert!(!work.holds(&Uuid::now_v7()));
        }
    }

    #[test]
    fn a_lease_ends_by_the_clock_of_its_process() {
        const HOUR: i64 = 3_600_000;
        let lease = Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), 1_000_000, 0));
        let taken = taken_at(lease).unwrap();
        for (by_the_database, expected) in [
            (taken, taken + HOUR),
            (taken + 5, taken + 5 + HOUR),
            (taken + 7 * HOUR, taken + HOUR + CLOCKS),
            (taken - 5, taken + HOUR),
            (taken - 7 * HOUR, taken + HOUR),
        ] {
            assert_eq!(until(lease, by_the_database, by_the_database + HOUR), expected);
        }
        assert_eq!(until(Uuid::nil(), 5, 7), 7, "its id tells nothing");
        assert_eq!(until(lease, i64::MIN, i64::MAX), i64::MAX);
    }
}
