//! The corpus of real and synthetic files against the whole of this layer. Files that are absent make nothing fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::dicom::events::{Limits, ParseError};
use crate::dicom::explicit::{Export, Reencoder, export};
use crate::dicom::frames::{self, FrameShape, Located};
use crate::dicom::header::{Content, Dataset, Element, Header, HeaderError, HeaderLimits, HeaderReader};
use crate::dicom::inflate::Inflater;

/// Where the corpus is, if it is there.
fn folder() -> Option<PathBuf> {
    let path = std::env::var_os("ISOCENTER_TEST_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/dicom"), PathBuf::from);
    path.join("MANIFEST.tsv").is_file().then_some(path)
}

/// Paths of the manifest and their bytes.
pub(crate) fn files() -> Vec<(String, Vec<u8>)> {
    let Some(folder) = folder() else { return Vec::new() };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let paths = manifest.lines().skip(1).filter_map(|line| line.split('\t').next());
    paths.map(|path| (path.to_owned(), std::fs::read(folder.join(path)).unwrap())).collect()
}

/// Reads a header from pieces of a file.
pub(crate) fn read(file: &[u8], piece: usize) -> Result<Header, ParseError> {
    let mut reader = HeaderReader::new(HeaderLimits::default());
    for chunk in file.chunks(piece.max(1)) {
        reader.push(chunk)?;
    }
    reader.finish_anonymous()
}

/// Bytes of an object, of its inflated data set for deflated ones.
pub(crate) fn range(header: &Header, file: &[u8], position: u64, length: u64) -> Vec<u8> {
    if header.encoding.deflated {
        let mut out = Vec::new();
        let mut inflater = Inflater::new(position..position + length, Limits::default());
        file.chunks(1000).for_each(|chunk| inflater.push(chunk, &mut out).unwrap());
        inflater.finish(&mut out).unwrap();
        out
    } else {
        file[usize::try_from(position).unwrap()..][..usize::try_from(length).unwrap()].to_vec()
    }
}

/// A frame as the archive would read it: stored index, then range, then shape.
fn frame(header: &Header, file: &[u8], number: u32) -> Option<Bytes> {
    let stored = header.frames.store();
    let extent = match frames::locate(&stored.head, number).unwrap() {
        Located::Frame(extent) => extent,
        Located::InBlock(block) => frames::find_in_block(&stored.blocks[block as usize], number).unwrap(),
        Located::Beyond(_) => return None,
    };
    if let FrameShape::Native { deflated, .. } = extent.shape {
        assert_eq!(deflated, header.encoding.deflated);
    }
    let read = range(header, file, extent.position, extent.length);
    Some(extent.shape(Bytes::from(read)).unwrap())
}

#[test]
fn frames_are_the_bytes_that_the_reference_found() {
    let Some(folder) = folder() else { return };
    let references = std::fs::read_to_string(folder.join("pixels.tsv")).unwrap();
    let mut by_path: BTreeMap<&str, Vec<(u32, &str)>> = BTreeMap::new();
    for line in references.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        if !fields[9].is_empty() {
            by_path.entry(fields[0]).or_default().push((fields[1].parse().unwrap(), fields[9]));
        }
    }
    let (mut same, mut wrong) = (0, Vec::new());
    for (path, frames) in &by_path {
        let file = std::fs::read(folder.join(path)).unwrap();
        let header = read(&file, 65_536).unwrap();
        for (number, expected) in frames {
            let found = frame(&header, &file, *number).map(|frame| hex(&Sha256::digest(&frame)));
            if found.as_deref() == Some(*expected) { same += 1 } else { wrong.push((path, number, found.is_some())) }
        }
    }
    println!("{same} frames of {} corpus files", by_path.len());
    assert_eq!(wrong, Vec::new());
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn every_file_is_read_or_refused_for_what_is_wrong_with_it() {
    let refused = [
        ("broken/MR_truncated.dcm", "truncated at byte 9630"),
        ("broken/emri_small_jpeg_2k_lossless_too_short.dcm", "truncated at byte 40316"),
        ("broken/no_meta.dcm", "not DICOM"),
        ("broken/rtplan_truncated.dcm", "truncated at byte 2129"),
        ("broken/syn_enc_fragment_overrun.dcm", "truncated at byte 674"),
        ("broken/syn_enc_no_delimiter.dcm", "truncated at byte 676"),
        ("broken/syn_nested_open_200.dcm", "nesting of sequences over the limit at byte 1934"),
        ("broken/syn_png.dcm", "not DICOM"),
        ("broken/syn_preamble_only.dcm", "truncated at byte 132"),
        ("broken/syn_text.dcm", "not DICOM"),
        ("broken/syn_trailing_garbage.dcm", "neither item nor delimiter at byte 678"),
        ("broken/syn_truncated_element_header.dcm", "truncated at byte 429"),
        ("broken/syn_truncated_meta.dcm", "truncated at byte 170"),
        ("broken/syn_truncated_value.dcm", "truncated at byte 663"),
        ("broken/syn_zero_bytes.dcm", "not DICOM"),
        ("broken/fuzz/001_gdcm_sig6_dcd1231a.dcm", "neither fragment nor delimiter at byte 366"),
        ("broken/fuzz/017_dcdump_hang_00ad9029.dcm", "truncated at byte 2968"),
    ];
    let files = files();
    let mut found = Vec::new();
    for (path, file) in &files {
        match read(file, 4096) {
            Ok(header) => {
                check_extents(&header, file, &header.dataset);
                let strict = HeaderReader::new(HeaderLimits::default());
                let identity = read_strictly(strict, file);
                assert_eq!(identity.is_ok(), header.identity().is_ok(), "{path}");
            }
            Err(error) => found.push((path.as_str(), error.to_string())),
        }
    }
    println!("{} corpus files", files.len());
    if !files.is_empty() {
        let expected: Vec<_> = refused.iter().map(|(path, why)| (*path, (*why).to_owned())).collect();
        found.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}

fn read_strictly(mut reader: HeaderReader, file: &[u8]) -> Result<Header, HeaderError> {
    reader.push(file)?;
    reader.finish()
}

/// Held values are what lies at their extents.
fn check_extents(header: &Header, file: &[u8], dataset: &Dataset) {
    for element in &dataset.elements {
        let extent = element.extent;
        match &element.content {
            Content::Held(_) if !header.encoding.deflated && !header.encoding.big_endian => {
                assert_eq!(header.value(element), range(header, file, extent.position, extent.length));
            }
            Content::Held(_) => assert_eq!(header.value(element).len() as u64, extent.length),
            Content::Left | Content::Fragments if !header.encoding.deflated => {
                assert!(extent.position + extent.length <= file.len() as u64);
            }
            Content::Left | Content::Fragments => {}
            Content::Items(items) => items.iter().for_each(|item| check_extents(header, file, item)),
        }
    }
}

#[test]
fn a_file_is_read_the_same_in_pieces_of_any_size() {
    let files = files();
    let small = files.iter().filter(|(_, file)| file.len() < 20_000);
    let mut count = 0;
    for (path, file) in small {
        let whole = read(file, usize::MAX);
        for piece in [1, 7, 13, 1000] {
            let pieces = read(file, piece);
            match (&whole, &pieces) {
                (Ok(whole), Ok(pieces)) => {
                    assert_eq!(format!("{:?}", whole.dataset), format!("{:?}", pieces.dataset), "{path}");
                    assert_eq!(whole.arena, pieces.arena, "{path}");
                    assert_eq!(whole.frames, pieces.frames, "{path}");
                }
                (whole, pieces) => {
                    assert_eq!(whole.as_ref().err(), pieces.as_ref().err(), "{path}");
                }
            }
        }
        count += 1;
    }
    println!("{count} corpus files");
}

#[test]
fn a_file_that_is_cut_is_read_only_where_an_element_ends() {
    let mut count = 0;
    for (path, file) in files().iter().filter(|(_, file)| file.len() < 3000) {
        for end in 0..file.len() {
            let Ok(header) = read(&file[..end], 512) else { continue };
            if header.encoding.deflated {
                // only what follows the end of the deflate stream may be missing
                assert!(end + 9 >= file.len(), "{path} cut at {end}");
                continue;
            }
            let Some(last) = header.dataset.elements.iter().max_by_key(|element| element.extent.position) else {
                continue;
            };
            if matches!(last.content, Content::Items(_)) {
                continue;
            }
            let complete = usize::try_from(last.extent.position + last.extent.length).unwrap();
            assert!(file[complete..end].iter().all(|byte| *byte == 0), "{path} cut at {end}");
        }
        count += 1;
    }
    println!("{count} corpus files");
}

#[test]
fn no_damage_makes_anything_panic() {
    let mut count = 0;
    let mut random = 0x1234_5678_9ABC_DEF1_u64;
    let mut next = || {
        // xorshift: the same damage in every run
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for (_, file) in files().iter().filter(|(_, file)| file.len() < 40_000) {
        for _ in 0..20 {
            let mut damaged = file.clone();
            for _ in 0..=next() % 4 {
                let Some(at) = next().checked_rem(damaged.len() as u64) else { break };
                let at = usize::try_from(at).unwrap();
                damaged[at] = [0, 0xFF, 0xFE, b'S', next().to_le_bytes()[0]][usize::try_from(next() % 5).unwrap()];
            }
            let Ok(header) = read(&damaged, 5000) else { continue };
            let stored = header.frames.store();
            for number in [0, 1, 2, header.number_of_frames, u32::MAX] {
                if let Ok(Located::InBlock(block)) = frames::locate(&stored.head, number) {
                    let _ = frames::find_in_block(&stored.blocks[block as usize], number);
                }
            }
            count += 1;
        }
    }
    println!("{count} damaged corpus files were read");
}

#[test]
fn every_file_leaves_as_a_file_with_the_same_elements() {
    let files = files();
    let mut count = 0;
    for (path, file) in &files {
        let Ok(header) = read(file, usize::MAX) else { continue };
        let Ok(identity) = header.identity() else { continue };
        let mut out = Vec::new();
        let limits = Limits::default();
        let mut reencoder =
            Reencoder::new(&identity.sop_class, &identity.key.instance, &header.transfer_syntax, limits);
        for chunk in file.chunks(1021) {
            reencoder.push(chunk, &mut out).unwrap();
        }
        reencoder.finish(&mut out).unwrap();
        let again = read(&out, usize::MAX).unwrap();
        let uid = again.transfer_syntax.clone();
        assert_eq!(export(again.form, again.encoding, &uid), Export::AsStored, "{path}");
        assert_eq!(again.number_of_frames, header.number_of_frames, "{path}");
        assert_eq!(tags(&again.dataset), tags(&header.dataset), "{path}");
        for number in [1, header.number_of_frames] {
            assert_eq!(frame(&again, &out, number), frame(&header, file, number), "{path}");
        }
        count += 1;
    }
    println!("{count} corpus files");
}

/// Tags, VRs and lengths of all elements that are written again, lengths made even.
fn tags(dataset: &Dataset) -> Vec<String> {
    let written = dataset.elements.iter().filter(|element| element.tag.1 != 0);
    let one = |element: &Element| match &element.content {
        Content::Items(items) => format!("{} {:?}", element.tag, items.iter().map(tags).collect::<Vec<_>>()),
        Content::Held(_) | Content::Left => {
            format!("{} {} {}", element.tag, element.vr, element.extent.length.next_multiple_of(2))
        }
        // fragments of odd length are padded too
        Content::Fragments => format!("{} {}", element.tag, element.vr),
    };
    written.map(one).collect()
}
