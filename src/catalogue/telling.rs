//! Which instance tells of a study and of a series: the one received first of those that can be seen. What was deleted is not to
//! show in them, and an index that is made anew is to say the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::columns::{SERIES_COLUMNS, STUDY_COLUMNS, series_row, study_row};
use super::deletions::{lock, recounts};
use super::metadata::{Dictionaries, Dictionary, Stored, decompress_each};
use super::sql::{Row, Statement};
use super::transaction::Transaction;
use super::upsert::update;
use super::{Catalogue, MAIN_PARTITION};
use crate::clock;
use crate::dicom::entry::{SeriesEntry, StudyEntry};
use crate::dicom::stored_entry::stored_entries;
use crate::dicom::uid::{Scope, StudyUid};
use crate::error::{Error, ErrorKind, Result};

impl Catalogue {
    /// Takes the attributes of a study and its series from those of its instances again, and counts them.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn describe_anew(&self, study: &StudyUid) -> Result<()> {
        let (dictionaries, study) = (self.0.dictionaries.clone(), study.clone());
        self.transact(move |transaction| {
            let (dictionaries, scope) = (dictionaries.clone(), Scope::Study(study.clone()));
            Box::pin(async move {
                lock(transaction, &scope, Vec::new()).await?;
                let find = Statement::new(
                    "select s.id, t.id from series s join studies t on t.id = s.study_id \
                     where t.partition_id = $1 and t.study_uid = $2",
                );
                let find = find.with(MAIN_PARTITION).with(scope.study().as_str());
                let rows: Vec<Row> = transaction.fetch_each(vec![find]).await?.into_iter().flatten().collect();
                let ids = |column| rows.iter().map(move |row| row.integer(column)).collect::<Result<BTreeSet<_>>>();
                count_anew(transaction, &dictionaries, &ids(0)?, &ids(1)?).await.map(|()| (true, ()))
            })
        })
        .await
    }
}

/// After what can be seen of them has changed: these series and studies say what there is.
pub(super) async fn count_anew(
    transaction: &mut Transaction,
    dictionaries: &Dictionaries,
    series: &BTreeSet<i64>,
    studies: &BTreeSet<i64>,
) -> Result<()> {
    let now = clock::unix_millis();
    let mut statements = Vec::new();
    for id in series {
        if let Some(told) = told(transaction, dictionaries, Of::Series(*id), &[]).await? {
            statements.push(update("series", SERIES_COLUMNS, series_row("", "", &told.series, 0, now), *id));
        }
    }
    for id in studies {
        if let Some(told) = told(transaction, dictionaries, Of::Study(*id), &[]).await? {
            statements.push(update("studies", STUDY_COLUMNS, study_row("", &told.study, 0, now), *id));
        }
    }
    statements.extend(recounts(transaction.dialect(), series, studies));
    transaction.fetch_each(statements).await.map(drop)
}

/// Of what an instance tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Study(i64),
    Series(i64),
}

/// What an instance tells.
pub(super) struct Told {
    pub(super) received_at: i64,
    pub(super) location: String,
    pub(super) study: StudyEntry,
    pub(super) series: SeriesEntry,
}

/// So many instances are asked, should the metadata of those before be damaged.
const ASKED: i64 = 8;

/// What the instance tells that was received first of those that can be seen, if any can, but for these.
pub(super) async fn told(
    transaction: &mut Transaction,
    dictionaries: &Dictionaries,
    of: Of,
    but: &[i64],
) -> Result<Option<Told>> {
    let (column, id) = match of {
        Of::Study(id) => ("study_id", id),
        Of::Series(id) => ("series_id", id),
    };
    let find = Statement::new(format!(
        "select id from instances where {column} = $1 and hidden = 0 and not (id {}) order by received_at, location limit $3",
        transaction.dialect().any(2)
    ));
    let first = transaction.fetch_each(vec![find.with(id).with(but.to_vec()).with(ASKED)]).await?;
    for row in first.iter().flatten() {
        let text = "select received_at, location, dictionary_id, metadata from instances where id = $1";
        let rows = transaction.fetch_each(vec![Statement::new(text).with(row.integer(0)?)]).await?;
        let Some(row) = rows.iter().flatten().next() else { continue };
        match tells(transaction, dictionaries, row).await {
            Ok(told) => return Ok(Some(told)),
            // it must not keep anybody from deleting
            Err(error) if error.kind() == ErrorKind::Internal => {
                tracing::error!(location = row.text(1)?, ?error, "an instance cannot tell of its study");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn tells(transaction: &mut Transaction, dictionaries: &Dictionaries, row: &Row) -> Result<Told> {
    let stored = Stored { dictionary: row.optional_integer(2)?, bytes: row.bytes(3)?.to_vec() };
    let mut known: Vec<(i64, Arc<Dictionary>)> = Vec::new();
    if let Some(id) = stored.dictionary {
        let dictionary = if let Some(dictionary) = dictionaries.get(id) {
            dictionary
        } else {
            let rows = transaction.fetch_each(vec![Dictionaries::statement(id)]).await?;
            Dictionaries::read(&rows.into_iter().flatten().collect::<Vec<_>>())?
        };
        known.push((id, dictionary));
    }
    let entries = decompress_each(&[stored], &known, |metadata| stored_entries(&metadata))?.pop();
    let (study, series) = entries.ok_or_else(|| Error::internal("one row gave no metadata"))?;
    Ok(Told { received_at: row.integer(0)?, location: row.text(1)?.to_owned(), study, series })
}
