//! The header reader: how a file is cut changes nothing, what is held stays within its bound, what is left lies in the file.
//!
//! Input: a byte that says how to cut, the file.

use isocenter::dicom::events::{Flaw, Limits, ParseError};
use isocenter::dicom::frames::{FrameExtent, FrameIndex, Located, find_in_block, locate};
use isocenter::dicom::header::{Content, Dataset, Header, HeaderError, HeaderLimits, HeaderReader};

/// Small enough to be met.
const LIMITS: HeaderLimits = HeaderLimits {
    parser: Limits { depth: 16, elements: 20_000, inflation: 1000, inflated: 4 << 20 },
    binary: 64,
    text: 256,
    value: 4096,
    bytes: 256 << 10,
};
/// What may be held beyond the bound: what vectors reserve for one more element.
const SLACK: usize = 64 << 10;
/// Frames that are looked up.
const MOST_FRAMES: u32 = 200;

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((seed, file)) = super::first(data) else { return };
    let whole = read(&[file]);
    for cut in [1, seed] {
        let again = read(&super::chunks(cut, file));
        match (&whole, &again) {
            (Ok(whole), Ok(again)) => assert_same(whole, again),
            (Err(whole), Err(again)) => {
                assert!(depends(whole) || depends(again) || whole == again, "cut by {cut}: {whole:?}, {again:?}");
            }
            _ => panic!("cut by {cut}: {:?}, {:?}", whole.as_ref().err(), again.as_ref().err()),
        }
    }
    if let Ok(header) = whole {
        assert_frames(&header);
        if !header.encoding.deflated {
            assert_within(&header, &header.dataset, file.len() as u64);
        }
    }
}

/// Reads a file in chunks.
pub fn read(chunks: &[&[u8]]) -> Result<Header, HeaderError> {
    let mut reader = HeaderReader::new(LIMITS);
    for chunk in chunks {
        let pushed = reader.push(chunk);
        assert!(reader.held_bytes() <= LIMITS.bytes + SLACK, "{} bytes are held", reader.held_bytes());
        pushed?;
    }
    let known = reader.identity().cloned();
    let header = reader.finish()?;
    if let Some(known) = known {
        assert_eq!(header.identity().ok(), Some(known));
    }
    Ok(header)
}

/// Where a limit and a damaged deflate stream are found out depends on how much is looked at together.
fn depends(error: &HeaderError) -> bool {
    let HeaderError::Parse(error) = error else { return false };
    matches!(error, ParseError::Limit { .. } | ParseError::Malformed { what: Flaw::NotDeflate, .. })
}

fn assert_same(one: &Header, other: &Header) {
    assert_eq!((one.form, &one.meta, &one.transfer_syntax), (other.form, &other.meta, &other.transfer_syntax));
    assert_eq!((one.encoding, one.dataset_position), (other.encoding, other.dataset_position));
    assert_eq!((&one.frames, one.number_of_frames), (&other.frames, other.number_of_frames));
    assert_same_dataset((one, &one.dataset), (other, &other.dataset));
}

fn assert_same_dataset((one, ones): (&Header, &Dataset), (other, others): (&Header, &Dataset)) {
    assert!(ones.elements.is_sorted_by(|one, other| one.tag < other.tag), "not ascending");
    assert_eq!(ones.elements.len(), others.elements.len());
    for (a, b) in ones.elements.iter().zip(&others.elements) {
        assert_eq!((a.tag, a.vr, a.extent, a.big_endian), (b.tag, b.vr, b.extent, b.big_endian));
        match (&a.content, &b.content) {
            (Content::Items(a), Content::Items(b)) => {
                assert_eq!(a.len(), b.len());
                a.iter().zip(b).for_each(|(a, b)| assert_same_dataset((one, a), (other, b)));
            }
            (Content::Held(_), Content::Held(_)) => assert_eq!(one.value(a), other.value(b)),
            (Content::Left, Content::Left) | (Content::Fragments, Content::Fragments) => {}
            (a, b) => panic!("{a:?}, {b:?}"),
        }
    }
}

/// Every value lies in the file.
fn assert_within(header: &Header, dataset: &Dataset, length: u64) {
    for element in &dataset.elements {
        let end = element.extent.position.checked_add(element.extent.length);
        assert!(end.is_some_and(|end| end <= length), "{:?} of {length}", element.extent);
        if let Content::Items(items) = &element.content {
            for item in items {
                assert_within(header, item, length);
            }
        }
    }
    for number in 1..=header.frames.frames().min(MOST_FRAMES) {
        let frame = stored(header, number);
        let end = frame.position.checked_add(frame.length);
        assert!(end.is_some_and(|end| end <= length), "frame {number}: {frame:?} of {length}");
    }
}

/// The stored form of the index leads to the frames of the index.
fn assert_frames(header: &Header) {
    let all = header.frames.frames();
    if let FrameIndex::Encapsulated(frames) = &header.frames {
        assert_eq!(frames.iter().count(), all as usize);
        for (number, frame) in (1..=MOST_FRAMES).zip(frames.iter()) {
            assert_eq!(stored(header, number), FrameExtent::from(frame), "frame {number}");
        }
    }
    let head = header.frames.store().head;
    for beyond in [0, all.saturating_add(1), u32::MAX] {
        if beyond == 0 || beyond > all {
            assert_eq!(locate(&head, beyond), Ok(Located::Beyond(all)));
        }
    }
}

fn stored(header: &Header, number: u32) -> FrameExtent {
    let index = header.frames.store();
    match locate(&index.head, number) {
        Ok(Located::Frame(frame)) => frame,
        Ok(Located::InBlock(block)) => find_in_block(&index.blocks[block as usize], number).expect("in its block"),
        other => panic!("frame {number}: {other:?}"),
    }
}
