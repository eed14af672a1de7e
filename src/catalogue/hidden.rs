//! Whether an instance can be seen, and if not, why: the column `hidden`; and what a study and its series count then.

use super::dialect::Dialect;
use super::sql::Statement;

/// The values of the column `hidden`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hidden {
    /// It can be seen.
    No,
    /// It was deleted, and can be taken back.
    Deleted,
    /// Another content took its place; it will be erased.
    Replaced,
    /// Another content took its place; it is kept as an older version.
    Kept,
    /// Its object is being erased, which nothing brings back.
    Erasing,
}

impl Hidden {
    /// As the column has it.
    pub(super) fn code(self) -> i64 {
        match self {
            Self::No => 0,
            Self::Deleted => 1,
            Self::Replaced => 2,
            Self::Kept => 3,
            Self::Erasing => 4,
        }
    }
}

/// Counts the visible instances of a series anew, and says that it has changed.
pub(super) fn recount_series(series: i64, now: i64) -> Statement {
    Statement::new(
        "update series set instance_count = \
         (select count(*) from instances where series_id = series.id and hidden = 0), \
         version = version + 1, updated_at = $1 where id = $2",
    )
    .with(now)
    .with(series)
}

/// Counts the series and instances of a study anew that can be seen, after its series.
pub(super) fn recount_study(dialect: Dialect, study: i64, now: i64) -> Statement {
    let modalities = match dialect {
        Dialect::Sqlite => {
            "select group_concat(modality, '\\') from (select distinct modality from series \
             where study_id = studies.id and instance_count > 0 and modality <> '' order by modality)"
        }
        Dialect::Postgres => {
            "select string_agg(distinct modality, '\\' order by modality) from series \
             where study_id = studies.id and instance_count > 0 and modality <> ''"
        }
    };
    Statement::new(format!(
        "update studies set \
         instance_count = (select cast(coalesce(sum(instance_count), 0) as bigint) from series where study_id = studies.id), \
         series_count = (select count(*) from series where study_id = studies.id and instance_count > 0), \
         modalities = coalesce(({modalities}), ''), updated_at = $1 where id = $2"
    ))
    .with(now)
    .with(study)
}
