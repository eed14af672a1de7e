//! Making rows agree with what objects tell of deletions: which rows lie under their UIDs, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::deletions::{Deletion, insert, lock, make_known};
use super::failure::{Raced, is_unique_violation};
use super::hidden::Hidden;
use super::metadata::Dictionaries;
use super::restoring::show;
use super::sql::{Row, Statement};
use super::telling::count_anew;
use super::transaction::Transaction;
use super::{Catalogue, MAIN_PARTITION};
use crate::clock;
use crate::dicom::uid::InstanceUid;
use crate::error::{Error, Result};

/// A row that a deletion may hide, or hides: neither replaced nor being erased.
#[derive(Clone, Debug)]
pub struct Standing {
    pub(super) id: i64,
    pub(super) uid: String,
    pub(super) series: i64,
    pub(super) study: i64,
    /// The storage key of its object.
    pub location: String,
    /// When that was received, in milliseconds since 1970-01-01 UTC.
    pub received_at: i64,
    /// The deletion that hides it.
    pub deletion: Option<Uuid>,
}

impl Standing {
    /// The SOP Instance UID.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.uid
    }
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The deletion hides it.
    Deleted,
    /// The same, and nothing brings it back, as its object is gone.
    Erased,
    /// It is hidden and erased in time, as another content took its place.
    Replaced,
    /// It can be seen, unless another can be seen under its UID.
    Shown,
}

/// What came of rows.
#[derive(Debug, Default)]
pub struct Settled {
    /// How many changed.
    pub changed: u64,
    /// Those that are not shown, as another can be seen under their UIDs.
    pub taken: Vec<Standing>,
}

impl Catalogue {
    /// The rows under these UIDs.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn standing(&self, instances: &BTreeSet<&InstanceUid>) -> Result<Vec<Standing>> {
        let uids: Vec<String> = instances.iter().map(ToString::to_string).collect();
        let any = self.database().dialect().any(2);
        let mut standing = Vec::new();
        // visible and hidden rows have an index each
        for half in ["i.hidden = 0", "i.hidden <> 0 and i.hidden in (1, 3)"] {
            let rows = Statement::new(format!(
                "select i.id, i.sop_instance_uid, i.series_id, i.study_id, i.location, i.received_at, d.uuid from instances i \
                 left join deletions d on d.id = i.deletion_id and i.hidden = 1 \
                 where i.partition_id = $1 and i.sop_instance_uid {any} and {half} order by i.version desc, i.received_at desc"
            ));
            let rows = self.database().read_all(rows.with(MAIN_PARTITION).with(uids.clone())).await?;
            standing.extend(rows.iter().map(row).collect::<Result<Vec<_>>>()?);
        }
        Ok(standing)
    }

    /// Does to rows what was found of them; nothing if others changed them meanwhile. The newest version of an instance comes first.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn settle(&self, deletion: &Deletion, rows: &[(Standing, Verdict)]) -> Result<Option<Settled>> {
        let (deletion, rows, dictionaries) = (deletion.clone(), rows.to_vec(), self.0.dictionaries.clone());
        self.transact(move |transaction| {
            let (deletion, rows, dictionaries) = (deletion.clone(), rows.clone(), dictionaries.clone());
            Box::pin(async move {
                let settled = settle(transaction, &dictionaries, &deletion, &rows).await;
                // another was stored under one of the UIDs since they were looked for
                let settled =
                    settled.map_err(|error| if is_unique_violation(&error) { Raced::error() } else { error })?;
                Ok((settled.is_some(), settled))
            })
        })
        .await
    }

    /// Makes a deletion known that this index has never heard of, or has forgotten.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn know(&self, deletion: &Deletion) -> Result<()> {
        self.database().write(insert(deletion)).await.map(drop)
    }

    /// Forgets a deletion of which everything was taken back.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn forget_deletion(&self, deletion: Uuid) -> Result<()> {
        let forget = Statement::new(
            "delete from deletions where uuid = $1 \
             and not exists (select 1 from instances i where i.deletion_id = deletions.id limit 1)",
        );
        self.database().write(forget.with(deletion.to_string())).await.map(drop)
    }
}

fn row(row: &Row) -> Result<Standing> {
    let uuid = |text: &str| {
        Uuid::try_parse(text).map_err(|error| Error::internal("the row of a deletion is damaged").caused_by(error))
    };
    Ok(Standing {
        id: row.integer(0)?,
        uid: row.text(1)?.to_owned(),
        series: row.integer(2)?,
        study: row.integer(3)?,
        location: row.text(4)?.to_owned(),
        received_at: row.integer(5)?,
        deletion: row.optional_text(6)?.map(uuid).transpose()?,
    })
}

async fn settle(
    transaction: &mut Transaction,
    dictionaries: &Dictionaries,
    deletion: &Deletion,
    rows: &[(Standing, Verdict)],
) -> Result<Option<Settled>> {
    let dialect = transaction.dialect();
    lock(transaction, &deletion.scope, rows.iter().map(|(row, _)| row.study).collect()).await?;
    let mut changed: Vec<&Standing> = Vec::new();
    let states = [
        (Verdict::Deleted, Hidden::Deleted),
        (Verdict::Erased, Hidden::Erasing),
        (Verdict::Replaced, Hidden::Replaced),
    ];
    for (verdict, state) in states {
        for (was_hidden, from) in [(false, "hidden in (0, 3)"), (true, "hidden = 1")] {
            let of = rows.iter().filter(|(row, of)| *of == verdict && row.deletion.is_some() == was_hidden);
            let of: Vec<&Standing> = of.map(|(row, _)| row).collect();
            if of.is_empty() {
                continue;
            }
            // what is hidden from now on has all of its time
            let hide = Statement::new(format!(
                "update instances set hidden = $1, hidden_at = $2, deletion_id = $3 where id {} and {from} returning id",
                dialect.any(4)
            ));
            let by = if verdict == Verdict::Replaced { None } else { Some(make_known(transaction, deletion).await?) };
            let ids: Vec<i64> = of.iter().map(|row| row.id).collect();
            let hide = hide.with(state.code()).with(clock::unix_millis()).with(by).with(ids);
            if transaction.fetch_each(vec![hide]).await?.iter().flatten().count() != of.len() {
                return Ok(None);
            }
            changed.extend(of);
        }
    }
    let shown: Vec<&Standing> = rows.iter().filter(|(_, of)| *of == Verdict::Shown).map(|(row, _)| row).collect();
    let visible = visible(transaction, &shown).await?;
    let (taken, shown): (Vec<_>, Vec<_>) = shown.into_iter().partition(|row| visible.contains(&row.uid));
    let mut back: BTreeMap<&str, Vec<(i64, Hidden)>> = BTreeMap::new();
    for row in shown {
        let of_uid = back.entry(&row.uid).or_default();
        of_uid.push((row.id, if of_uid.is_empty() { Hidden::No } else { Hidden::Kept }));
        changed.push(row);
    }
    if !show(transaction, back.into_values().flatten()).await? {
        return Ok(None);
    }
    let (series, studies) =
        (changed.iter().map(|row| row.series).collect(), changed.iter().map(|row| row.study).collect());
    count_anew(transaction, dictionaries, &series, &studies).await?;
    Ok(Some(Settled { changed: changed.len() as u64, taken: taken.into_iter().cloned().collect() }))
}

/// The UIDs of these under which something can be seen.
async fn visible(transaction: &mut Transaction, rows: &[&Standing]) -> Result<BTreeSet<String>> {
    if rows.is_empty() {
        return Ok(BTreeSet::new());
    }
    let any = transaction.dialect().any(2);
    let text = format!(
        "select sop_instance_uid from instances where partition_id = $1 and hidden = 0 and sop_instance_uid {any}"
    );
    let uids: Vec<String> = rows.iter().map(|row| row.uid.clone()).collect();
    let rows = transaction.fetch_each(vec![Statement::new(text).with(MAIN_PARTITION).with(uids)]).await?;
    rows.iter().flatten().map(|row| row.text(0).map(str::to_owned)).collect()
}
