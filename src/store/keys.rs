//! Where each kind of object lies: kind → path, content type. The only place where a storage path is made.

use crate::dicom::uid::InstanceKey;
use crate::error::{Error, Result};
use uuid::Uuid;

/// The media type of instances.
pub const DICOM: &str = "application/dicom";

/// The path of an object in the store: made here or read back from the index, never from a client's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageKey(String);

impl StorageKey {
    /// The object of one attempt to store an instance: `studies/{study}/{series}/{instance}.{lease}.{number}.dcm`.
    ///
    /// Every attempt under a lease has a number of its own, since several may name the same instance: the object of the one
    /// that loses must neither replace that of the other nor take it along when it is removed.
    #[must_use]
    pub fn instance(key: &InstanceKey, lease: Uuid, number: u64) -> Self {
        Self(format!("studies/{}/{}/{}.{}.{number}.dcm", key.study, key.series, key.instance, lease.simple()))
    }

    /// An object that is written, read and removed to see that the store works: `probe/{id}/probe`.
    #[must_use]
    pub fn probe(id: Uuid) -> Self {
        Self(format!("probe/{}/probe", id.simple()))
    }

    /// A key as the index kept it.
    #[must_use]
    pub fn from_index(location: String) -> Self {
        Self(location)
    }

    /// The text for the index.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, if it stays below the root of a store: names of letters, digits and `.-_`, none of them hidden.
    ///
    /// A row may have been written by hand or by another program, so this is asked before a key becomes a path.
    pub fn checked(&self) -> Result<&str> {
        let name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        if self.0.split('/').all(name) && self.0.contains('/') {
            Ok(&self.0)
        } else {
            Err(Error::internal("the location of an object is not a path below the object store"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_leaves_the_root() {
        for bad in
            ["", "/", "a", "../a", "a/../b", "/etc/passwd", "a//b", "a/./b", "a/b/", "a/.hidden", "a\\..\\b/c", "a/\0"]
        {
            assert!(StorageKey::from_index(bad.to_owned()).checked().is_err(), "{bad:?}");
        }
        for good in ["studies/1.2/3.4/5.6.0abc.dcm", "probe/0/probe"] {
            assert_eq!(StorageKey::from_index(good.to_owned()).checked().unwrap(), good);
        }
    }
}
