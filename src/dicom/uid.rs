//! Unique identifiers as types: parsed once at the edge, exact text ever after.
//!
//! Accepted are 1 to 64 characters of `[0-9.]`, neither starting nor ending with a dot and without two dots together.
//! Leading zeros of a component are kept: some archives hold such UIDs and ask for them by their exact text
//! ([PS3.5 9.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part05/chapter_9.html) forbids them).

use std::fmt;

/// Why a text is not a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// More than 64 characters.
    #[error("is longer than 64 characters")]
    TooLong,
    /// A character other than digits and dots.
    #[error("has characters other than digits and dots")]
    Character,
    /// A dot at the start or the end, or two together.
    #[error("has an empty component")]
    Component,
}

fn check(text: &str) -> Result<(), UidError> {
    if text.is_empty() {
        return Err(UidError::Empty);
    }
    if text.len() > 64 {
        return Err(UidError::TooLong);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(UidError::Character);
    }
    if text.split('.').any(str::is_empty) {
        return Err(UidError::Component);
    }
    Ok(())
}

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses the exact text of a UID.
            ///
            /// # Errors
            /// Says what is wrong with it.
            pub fn parse(text: &str) -> Result<Self, UidError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The UID as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uid!(
    /// Study Instance UID (0020,000D).
    StudyUid
);
uid!(
    /// Series Instance UID (0020,000E).
    SeriesUid
);
uid!(
    /// SOP Instance UID (0008,0018).
    InstanceUid
);
uid!(
    /// SOP Class UID (0008,0016).
    SopClassUid
);
uid!(
    /// Transfer Syntax UID (0002,0010).
    TransferSyntaxUid
);

/// The place of an instance in the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// Its study.
    pub study: StudyUid,
    /// Its series.
    pub series: SeriesUid,
    /// Itself.
    pub instance: InstanceUid,
}

/// A study, a series of it, or an instance of that: what a retrieve URL names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All instances of a study.
    Study(StudyUid),
    /// All instances of a series.
    Series(StudyUid, SeriesUid),
    /// One instance.
    Instance(InstanceKey),
}

impl Scope {
    /// The study that it is or lies in.
    #[must_use]
    pub fn study(&self) -> &StudyUid {
        match self {
            Self::Study(study) | Self::Series(study, _) => study,
            Self::Instance(key) => &key.study,
        }
    }

    /// Its own UID.
    #[must_use]
    pub fn uid(&self) -> &str {
        match self {
            Self::Study(study) => study.as_str(),
            Self::Series(_, series) => series.as_str(),
            Self::Instance(key) => key.instance.as_str(),
        }
    }

    /// Whether an instance is or lies in it.
    #[must_use]
    pub fn holds(&self, key: &InstanceKey) -> bool {
        match self {
            Self::Study(study) => *study == key.study,
            Self::Series(study, series) => (study, series) == (&key.study, &key.series),
            Self::Instance(instance) => instance == key,
        }
    }

    /// The level that it names.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Study(_) => Level::Study,
            Self::Series(..) => Level::Series,
            Self::Instance(_) => Level::Instance,
        }
    }
}

/// A level of the query model; the patient is part of the study here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Patient and study.
    Study,
    /// Series.
    Series,
    /// Instance.
    Instance,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_uids_are_accepted() {
        let long = format!("1.{}", "2".repeat(62));
        for good in ["1", "1.2.840.10008", "1.02.3", "0", long.as_str()] {
            assert_eq!(StudyUid::parse(good).map(|uid| uid.as_str().to_owned()), Ok(good.to_owned()));
        }
        let too_long = format!("{long}3");
        for (bad, why) in [
            ("", UidError::Empty),
            (too_long.as_str(), UidError::TooLong),
            ("1.2a", UidError::Character),
            ("1.2 ", UidError::Character),
            ("../1", UidError::Character),
            (".1", UidError::Component),
            ("1.", UidError::Component),
            ("1..2", UidError::Component),
        ] {
            assert_eq!(StudyUid::parse(bad), Err(why), "{bad}");
        }
    }
}
