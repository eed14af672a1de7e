//! Which instance a file says it is, read from its beginning before anything is sent: so it is known which files of a run
//! contend for one SOP Instance UID, and which of them an answer means.

use crate::dicom::events::{ElementHeader, Limits, ParseError, Sink};
use crate::dicom::stream::Stream;
use dicom_core::Tag;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
/// Bytes that are read at once; nearly always these are enough.
const STEP: usize = 4 << 10;
/// Bytes of a file, and of its inflated data set, in which its UID is looked for. Large private elements may come before.
const MOST: u64 = 4 << 20;
/// Bytes of a value that may be a UID: 64, and something for sloppy padding.
const LONGEST: u32 = 80;

/// The SOP Instance UIDs by which a server may name a file: that of its data set and that of its file meta information,
/// which should be the same. None for what is not DICOM.
pub fn uids_of(path: &Path) -> Vec<String> {
    // what cannot be read now cannot be read when it is sent, where it is told
    File::open(path).and_then(read).unwrap_or_default()
}

fn read(file: impl Read) -> io::Result<Vec<String>> {
    let mut file = file.take(MOST);
    let mut stream = Stream::new(Limits { inflated: MOST, ..Limits::default() });
    let mut finder = Finder::default();
    let mut piece = Vec::with_capacity(STEP);
    while finder.uid.is_none() {
        piece.clear();
        file.by_ref().take(STEP as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            // a short one is understood only at its end; that something is missing is for the server to say
            let _ = stream.finish(&mut finder);
            break;
        }
        if stream.push(&piece, &mut finder).is_err() {
            break;
        }
    }
    let meta = stream.front().and_then(|front| front.meta.sop_instance.as_deref());
    let mut uids: Vec<String> = finder.uid.into_iter().collect();
    uids.extend(meta.filter(|uid| !uid.is_empty()).map(str::to_owned));
    uids.dedup();
    Ok(uids)
}

/// Takes the SOP Instance UID of the data set itself, not of one in a sequence; of several the first.
#[derive(Debug, Default)]
struct Finder {
    /// Open sequences.
    depth: usize,
    /// The value, while it comes.
    open: Option<Vec<u8>>,
    uid: Option<String>,
}

impl Sink for Finder {
    fn element(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        let wanted = self.depth == 0 && header.tag == SOP_INSTANCE_UID;
        self.open = (wanted && header.length.is_some_and(|length| length <= LONGEST)).then(Vec::new);
        Ok(())
    }

    fn value(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        if let Some(value) = &mut self.open {
            value.extend_from_slice(piece);
        }
        Ok(())
    }

    fn element_end(&mut self) -> Result<(), ParseError> {
        let uid = self.open.take().and_then(|value| String::from_utf8(value).ok());
        if let Some(uid) = uid.map(|uid| uid.trim_matches([' ', '\0']).to_owned()).filter(|uid| !uid.is_empty()) {
            self.uid.get_or_insert(uid);
        }
        Ok(())
    }

    fn sequence(&mut self, _: &ElementHeader) -> Result<(), ParseError> {
        self.depth += 1;
        Ok(())
    }

    fn item(&mut self) -> Result<(), ParseError> {
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), ParseError> {
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), ParseError> {
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn fragments(&mut self, _: &ElementHeader) -> Result<(), ParseError> {
        Ok(())
    }

    fn fragment(&mut self, _: u64, _: u32) -> Result<(), ParseError> {
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), ParseError> {
        Ok(())
    }

    fn fragments_end(&mut self, _: u64) -> Result<(), ParseError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Preamble and file meta information that names a UID.
    fn meta(uid: &str) -> Vec<u8> {
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        file.extend(element(0x0002, 0x0003, *b"UI", uid.as_bytes()));
        file
    }

    fn element(group: u16, element: u16, vr: [u8; 2], value: &[u8]) -> Vec<u8> {
        let mut out = [group.to_le_bytes(), element.to_le_bytes(), vr].concat();
        if vr == *b"UN" || vr == *b"SQ" {
            out.extend_from_slice(&[0, 0]);
            out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        } else {
            out.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        }
        out.extend_from_slice(value);
        out
    }

    fn instance(uid: &str) -> Vec<u8> {
        element(0x0008, 0x0018, *b"UI", uid.as_bytes())
    }

    fn uids(parts: &[&[u8]]) -> Vec<String> {
        read(parts.concat().as_slice()).unwrap()
    }

    #[test]
    fn a_file_is_known_by_its_data_set_and_by_its_file_meta_information() {
        let class = element(0x0008, 0x0016, *b"UI", b"1.2.840.10008.5.1.4.1.1.2\0");
        let modality = element(0x0008, 0x0060, *b"CS", b"CT");
        assert_eq!(uids(&[&meta("1.2.3\0"), &class, &instance("1.2.3 "), &modality]), ["1.2.3"]);
        assert_eq!(uids(&[&meta("1.2.3\0"), &class, &instance("1.2.44"), &modality]), ["1.2.44", "1.2.3"]);
        assert_eq!(uids(&[&meta("1.2.3\0"), &class, &modality]), ["1.2.3"]);
        assert_eq!(uids(&[&meta("1.2.3\0")]), ["1.2.3"]);
        assert_eq!(uids(&[&class, &instance("1.2.44"), &modality]), ["1.2.44"]);
        assert_eq!(uids(&[&class, &modality]), [""; 0]);
    }

    #[test]
    fn the_uid_is_found_after_large_elements_and_not_in_a_sequence() {
        let large = element(0x0008, 0x0001, *b"UN", &vec![7; 1 << 20]);
        let mut item = vec![0xfe, 0xff, 0x00, 0xe0];
        let inside = instance("9.9.99");
        item.extend(u32::try_from(inside.len()).unwrap().to_le_bytes());
        item.extend(inside);
        let sequence = element(0x0008, 0x0006, *b"SQ", &item);
        assert_eq!(uids(&[&meta("1.2.3\0"), &large, &sequence, &instance("1.2.44")]), ["1.2.44", "1.2.3"]);
    }

    #[test]
    fn what_is_not_dicom_has_no_uid_and_is_not_read_far() {
        assert_eq!(read(io::repeat(b'x')).unwrap(), [""; 0]);
        assert_eq!(read(&b"not DICOM"[..]).unwrap(), [""; 0]);
        assert_eq!(read(io::empty()).unwrap(), [""; 0]);
        // an element that never ends
        let endless = meta("1.2.3\0").into_iter().chain(*b"\x08\0\x01\0UN\0\0\xfe\xff\xff\xff").collect::<Vec<u8>>();
        assert_eq!(read(endless.chain(io::repeat(0))).unwrap(), ["1.2.3"]);
        assert_eq!(uids_of(Path::new("/nowhere/at/all")), [""; 0]);
    }
}
