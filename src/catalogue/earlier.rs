//! What lay under a SOP Instance UID before and cannot be seen: older versions that are kept, and what deletions hide.

use super::MAIN_PARTITION;
use super::dialect::Dialect;
use super::insert::NewInstance;
use super::sql::{Row, Statement};
use crate::dicom::uid::InstanceKey;
use crate::error::Result;

/// When a content came: by the time of its receipt, and among equals by the lease and the number in its storage key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Came(i64, Option<(String, u64)>);

impl Came {
    pub(super) fn new(received_at: i64, location: &str) -> Self {
        let object = || {
            let (name, number) = location.strip_suffix(".dcm")?.rsplit_once('.')?;
            Some((name.rsplit_once('.')?.1.to_owned(), number.parse().ok()?))
        };
        Self(received_at, object())
    }

    pub(super) fn of(new: &NewInstance) -> Self {
        Self::new(new.received_at, &new.location)
    }
}

/// An older version that is kept.
pub(super) struct Kept {
    pub(super) version: i64,
    pub(super) came: Came,
    pub(super) location: String,
}

/// An instance that a deletion hides.
pub(super) struct Gone {
    pub(super) deletion: i64,
    pub(super) version: i64,
    /// Study and series.
    pub(super) place: (String, String),
    pub(super) came: Came,
    pub(super) location: String,
    pub(super) received_digest: Vec<u8>,
}

impl Gone {
    pub(super) fn of(new: &NewInstance, deletion: i64, version: i64) -> Self {
        let InstanceKey { study, series, .. } = &new.entry.key;
        Self {
            deletion,
            version,
            place: (study.to_string(), series.to_string()),
            came: Came::of(new),
            location: new.location.clone(),
            received_digest: new.received_digest.to_vec(),
        }
    }

    /// Whether they are the same instance with the same content.
    pub(super) fn is_copy(&self, new: &NewInstance) -> bool {
        let InstanceKey { study, series, .. } = &new.entry.key;
        self.received_digest == new.received_digest
            && (self.place.0.as_str(), self.place.1.as_str()) == (study.as_str(), series.as_str())
    }
}

/// A row of [`find_hidden`].
pub(super) enum Earlier {
    Kept(Kept),
    Gone(Gone),
}

/// A row of [`find_hidden`], with its SOP Instance UID.
pub(super) fn earlier(row: &Row) -> Result<(String, Earlier)> {
    let (uid, location) = (row.text(0)?.to_owned(), row.text(3)?.to_owned());
    let (version, came) = (row.integer(1)?, Came::new(row.integer(2)?, &location));
    let Some(deletion) = row.optional_integer(4)? else {
        return Ok((uid, Earlier::Kept(Kept { version, came, location })));
    };
    let gone = Gone {
        deletion,
        version,
        place: (row.text(6)?.to_owned(), row.text(7)?.to_owned()),
        came,
        location,
        received_digest: row.bytes(5)?.to_vec(),
    };
    Ok((uid, Earlier::Gone(gone)))
}

/// The older versions that are kept of these SOP Instance UIDs, and what was deleted of them.
pub(super) fn find_hidden(dialect: Dialect, uids: Vec<String>) -> Statement {
    let find = Statement::new(format!(
        "select i.sop_instance_uid, i.version, i.received_at, i.location, i.deletion_id, i.received_digest, \
         t.study_uid, s.series_uid \
         from instances i join series s on s.id = i.series_id join studies t on t.id = i.study_id \
         where i.partition_id = $1 and (i.hidden = 3 or i.deletion_id is not null) and i.hidden <> 0 and i.sop_instance_uid {}",
        dialect.any(2)
    ));
    find.with(MAIN_PARTITION).with(uids)
}
