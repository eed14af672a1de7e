//! What the fuzz targets check, one module for each: `run` takes any bytes and panics when something does not hold.
//!
//! `tests/fuzz_seeds.rs` of the server runs every file below `seeds/` through the same functions.

pub mod accept;
pub mod coerce;
mod composed;
pub mod frames;
pub mod header;
pub mod json_in;
pub mod json_out;
pub mod media;
#[allow(dead_code, clippy::duplicate_mod, reason = "the tests of the server have it too, and need more of it")]
#[path = "../../tests/support/model.rs"]
mod model;
pub mod multipart;
pub mod query;
pub mod xml_in;

/// Cuts bytes into chunks whose sizes follow from a seed: 0 leaves them whole, 1 gives single bytes.
pub fn chunks(seed: u8, bytes: &[u8]) -> Vec<&[u8]> {
    let mut state = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut rest = bytes;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let length = match seed {
            0 => rest.len(),
            1 => 1,
            // mostly small, here and there larger than any buffer
            _ if state.trailing_zeros() >= 4 => usize::try_from(state >> 32).unwrap_or(0) % 20_000 + 1,
            _ => usize::try_from(state >> 32).unwrap_or(0) % 60 + 1,
        };
        let (chunk, after) = rest.split_at(length.min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// The first byte and the rest; nothing of nothing.
pub fn first(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

/// What comes before the first line feed and what comes after it.
pub fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}
