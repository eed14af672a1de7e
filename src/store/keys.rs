//! Where each kind of object lies: kind → path, content type. The only place where a storage path is made or read.

use crate::dicom::uid::{InstanceKey, InstanceUid, Scope, SeriesUid, StudyUid};
use crate::error::{Error, Result};
use uuid::Uuid;

/// The media type of instances.
pub const DICOM: &str = "application/dicom";

/// The path of an object in the store: made here or read back from the index, never from a client's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageKey(String);

/// What the key of an instance's object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceObject {
    /// The instance that was to be stored.
    pub instance: InstanceKey,
    /// The lease under which.
    pub lease: Uuid,
    /// Which of the objects begun under the lease.
    pub number: u64,
}

impl StorageKey {
    /// The object of one attempt to store an instance: `studies/{study}/{series}/{instance}.{lease}.{number}.dcm`.
    ///
    /// Every attempt under a lease has a number of its own, since several may name the same instance: the object of the one
    /// that loses must neither replace that of the other nor take it along when it is removed.
    #[must_use]
    pub fn instance(key: &InstanceKey, lease: Uuid, number: u64) -> Self {
        Self(format!("studies/{}/{}/{}.{}.{number}.dcm", key.study, key.series, key.instance, lease.simple()))
    }

    /// How the keys of all objects of a scope begin; those of others may too, whose UID goes on there.
    #[must_use]
    pub fn beginning(scope: &Scope) -> String {
        match scope {
            Scope::Study(study) => format!("studies/{study}/"),
            Scope::Series(study, series) => format!("studies/{study}/{series}/"),
            Scope::Instance(InstanceKey { study, series, instance }) => format!("studies/{study}/{series}/{instance}."),
        }
    }

    /// What [`Self::instance`] made this key of; none if it did not make it, to the letter.
    #[must_use]
    pub fn instance_object(&self) -> Option<InstanceObject> {
        let (study, rest) = self.0.strip_prefix("studies/")?.split_once('/')?;
        let (series, name) = rest.split_once('/')?;
        let (name, number) = name.strip_suffix(".dcm")?.rsplit_once('.')?;
        let (instance, lease) = name.rsplit_once('.')?;
        let instance = InstanceKey {
            study: StudyUid::parse(study).ok()?,
            series: SeriesUid::parse(series).ok()?,
            instance: InstanceUid::parse(instance).ok()?,
        };
        let object = InstanceObject { instance, lease: Uuid::try_parse(lease).ok()?, number: number.parse().ok()? };
        // there are other ways to write a number and the id of a lease
        (Self::instance(&object.instance, object.lease, object.number) == *self).then_some(object)
    }

    /// What tells of a deletion when the index is lost: `deletions/{id}.json`.
    #[must_use]
    pub fn deletion(id: Uuid) -> Self {
        Self::json("deletions", id)
    }

    /// The deletion that [`Self::deletion`] made this key of, if it did.
    #[must_use]
    pub fn deletion_id(&self) -> Option<Uuid> {
        self.json_id("deletions")
    }

    /// What tells of the objects of a deletion that were taken back when the index is lost: `restores/{deletion}.{id}.json`.
    #[must_use]
    pub fn restore(deletion: Uuid, id: Uuid) -> Self {
        Self(format!("restores/{}.{}.json", deletion.simple(), id.simple()))
    }

    /// The deletion and the id of which [`Self::restore`] made this key, if it did.
    #[must_use]
    pub fn restore_ids(&self) -> Option<(Uuid, Uuid)> {
        let (deletion, id) = self.0.strip_prefix("restores/")?.strip_suffix(".json")?.split_once('.')?;
        let (deletion, id) = (Uuid::try_parse(deletion).ok()?, Uuid::try_parse(id).ok()?);
        (Self::restore(deletion, id) == *self).then_some((deletion, id))
    }

    /// What the servers of the archive are set to: `settings/{id}.json`; of several the last one counts.
    #[must_use]
    pub fn settings(id: Uuid) -> Self {
        Self::json("settings", id)
    }

    /// The id of which [`Self::settings`] made this key, if it did.
    #[must_use]
    pub fn settings_id(&self) -> Option<Uuid> {
        self.json_id("settings")
    }

    fn json(folder: &str, id: Uuid) -> Self {
        Self(format!("{folder}/{}.json", id.simple()))
    }

    fn json_id(&self, folder: &str) -> Option<Uuid> {
        let name = self.0.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".json")?;
        let id = Uuid::try_parse(name).ok()?;
        // there are other ways to write an id
        (Self::json(folder, id) == *self).then_some(id)
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

    const LEASE: &str = "0192e4a0b7c87d3e9f00aabbccddeeff";

    #[test]
    fn a_key_says_what_it_was_made_of() {
        let instance = InstanceKey {
            study: StudyUid::parse("1.2").unwrap(),
            series: SeriesUid::parse("1.2.3").unwrap(),
            instance: InstanceUid::parse("1.2.3.4").unwrap(),
        };
        let lease = Uuid::try_parse(LEASE).unwrap();
        let scopes = [
            Scope::Study(instance.study.clone()),
            Scope::Series(instance.study.clone(), instance.series.clone()),
            Scope::Instance(instance.clone()),
        ];
        for number in [0, 7, u64::MAX] {
            let key = StorageKey::instance(&instance, lease, number);
            assert!(scopes.iter().all(|scope| key.as_str().starts_with(&StorageKey::beginning(scope))), "{key:?}");
            assert_eq!(key.instance_object(), Some(InstanceObject { instance: instance.clone(), lease, number }));
        }
    }

    #[test]
    fn only_a_key_made_here_for_an_instance_says_anything() {
        let good = format!("studies/1.2/3.4/5.6.{LEASE}.0.dcm");
        assert!(StorageKey::from_index(good.clone()).instance_object().is_some());
        for bad in [
            StorageKey::probe(Uuid::now_v7()).as_str().to_owned(),
            good.replace("studies/", "series/"),
            good.replace(".0.dcm", ".00.dcm"),
            good.replace(".0.dcm", ".+0.dcm"),
            good.replace(".0.dcm", ".dcm"),
            good.replace(".0.dcm", ".0.dcm.receipt"),
            good.replace(".0.dcm", ".18446744073709551616.dcm"),
            good.replace("0192", "0192-"),
            good.replace("9f00aabb", "9F00AABB"),
            good.replace(LEASE, "0192e4a0-b7c8-7d3e-9f00-aabbccddeeff"),
            good.replace("3.4/", ""),
            good.replace("3.4/", "3.4/5/"),
            good.replace("5.6.", ""),
            good.replace("5.6.", "5.x."),
            format!("{good}/{good}"),
            String::new(),
        ] {
            assert_eq!(StorageKey::from_index(bad.clone()).instance_object(), None, "{bad}");
        }
    }

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
