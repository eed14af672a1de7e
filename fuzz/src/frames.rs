//! The stored frame index, read from any bytes: damage is an error and never a wild read.
//!
//! Input: a frame number of 4 bytes, the head of an index or a block.

use bytes::Bytes;
use isocenter::dicom::frames::{FRAMES_PER_BLOCK, FrameBlock, FrameExtent, FrameShape, Located, find_in_block, locate};

/// Frames that are made of zeros are no longer than this.
const LONGEST: u64 = 64 << 10;

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((number, index)) = data.split_first_chunk() else { return };
    let number = u32::from_le_bytes(*number);
    match locate(index, number) {
        Ok(Located::Frame(frame)) => assert_made(&frame),
        Ok(Located::Beyond(frames)) => assert!(!(1..=frames).contains(&number), "{number} of {frames}"),
        Ok(Located::InBlock(block)) => assert_eq!(block, (number - 1) / FRAMES_PER_BLOCK),
        Err(_) => {}
    }
    assert_block(index, number);
}

/// A block gives the same frames one by one as each by itself.
fn assert_block(block: &[u8], number: u32) {
    let found = find_in_block(block, number);
    if let Ok(frame) = &found {
        assert_made(frame);
    }
    let Ok(mut walked) = FrameBlock::new(block.to_vec()) else {
        assert!(found.is_err());
        return;
    };
    assert_eq!(walked.clone().find(number), found, "frame {number} at once");
    let within = number.wrapping_sub(1) % FRAMES_PER_BLOCK;
    for before in 1..=within.min(32) {
        let frame = walked.find(before);
        assert_eq!(frame, find_in_block(block, before), "frame {before} on the way");
        if frame.is_err() {
            return;
        }
    }
    if number > 0 {
        assert_eq!(walked.find(number), found, "frame {number} behind others");
    }
}

/// What was read becomes a frame of its length, or is damaged; never anything else.
fn assert_made(frame: &FrameExtent) {
    if frame.length > LONGEST {
        return;
    }
    let length = usize::try_from(frame.length).expect("short");
    if let Ok(made) = frame.shape(Bytes::from(vec![0; length])) {
        assert_eq!(made.len() as u64, frame.frame_length(), "{frame:?}");
    } else {
        assert!(matches!(frame.shape, FrameShape::Native { .. }), "{frame:?}");
    }
    assert!(frame.shape(Bytes::from(vec![0; length + 1])).is_err(), "more than was asked for");
}
