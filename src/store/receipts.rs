//! What is known about an object when it arrives, and the text in which it is kept beside the object.
//!
//! The index can be rebuilt from the objects alone, so each has a receipt next to it:
//! - In a folder the receipts of a series are lines of one file `receipts` beside its objects, appended before an object
//!   gets its name and synced a moment after. A file of its own for each object would double the number of files and cost
//!   another sync for each; extended attributes do not survive copies and backups. A line whose object is gone means nothing.
//! - In a bucket the receipt is metadata of the object if that is sent in one request. The metadata of a multipart
//!   upload must be given before its bytes are known, so there it is an object `{key}.receipt`.
//!
//! Either way a torn object is seen: its bytes do not have the digest of its receipt. An object without a receipt, which a
//! loss of power may leave in a folder, is to be trusted if a row names it only.

use std::fmt::Write;

/// What goes with each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When it arrived, in milliseconds since 1970-01-01 UTC.
    pub received_at: i64,
    /// BLAKE3 of the bytes that were received.
    pub received_digest: [u8; 32],
    /// BLAKE3 of the object, which differs if it had to be rewritten.
    pub digest: [u8; 32],
}

impl Receipt {
    /// `{received_at} {received_digest} {digest}`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.received_at.to_string();
        for digest in [&self.received_digest, &self.digest] {
            text.push(' ');
            for byte in digest {
                let _ = write!(text, "{byte:02x}");
            }
        }
        text
    }

    /// Reads what [`Self::to_text`] wrote; nothing else, not even a part of it.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut words = text.trim_end_matches('\n').split(' ');
        let received_at = words.next()?.parse().ok()?;
        let received_digest = *blake3::Hash::from_hex(words.next()?).ok()?.as_bytes();
        let digest = *blake3::Hash::from_hex(words.next()?).ok()?.as_bytes();
        words.next().is_none().then_some(Self { received_at, received_digest, digest })
    }
}

/// A line of the file of a series. The line break stands first, so that a line after one that was torn by a crash is whole.
pub(super) fn line(name: &str, receipt: &Receipt) -> String {
    format!("\n{name} {}", receipt.to_text())
}

/// The receipt of the named object in the file of its series.
pub(super) fn find(lines: &str, name: &str) -> Option<Receipt> {
    lines.lines().rev().find_map(|line| Receipt::from_text(line.strip_prefix(name)?.strip_prefix(' ')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(time: i64) -> Receipt {
        Receipt { received_at: time, received_digest: [7; 32], digest: [255; 32] }
    }

    #[test]
    fn a_receipt_survives_its_text() {
        let text = receipt(1_700_000_000_123).to_text();
        assert_eq!(Receipt::from_text(&text), Some(receipt(1_700_000_000_123)));
        assert_eq!(Receipt::from_text(&text[..text.len() - 1]), None);
        assert_eq!(Receipt::from_text(&format!("{text} more")), None);
    }

    #[test]
    fn a_torn_line_hides_no_other() {
        let mut lines = line("1.a.dcm", &receipt(1));
        let torn = line("2.b.dcm", &receipt(2));
        lines.push_str(&torn[..torn.len() - 10]);
        lines.push_str(&line("3.c.dcm", &receipt(3)));
        assert_eq!(find(&lines, "1.a.dcm"), Some(receipt(1)));
        assert_eq!(find(&lines, "2.b.dcm"), None);
        assert_eq!(find(&lines, "3.c.dcm"), Some(receipt(3)));
        assert_eq!(find(&lines, "3.c.dc"), None);
    }
}
