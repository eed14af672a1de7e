//! What reading a header costs, and finding a frame: `cargo bench --bench parse`.

use bytes::Bytes;
use divan::{Bencher, black_box};
use isocenter::dicom::frames::{Located, find_in_block, locate};
use isocenter::dicom::header::{HeaderLimits, HeaderReader};

fn main() {
    divan::main();
}

fn element(out: &mut Vec<u8>, tag: (u16, u16), vr: [u8; 2], value: &[u8]) {
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
    out.extend(vr);
    if matches!(&vr, b"OB" | b"OW") {
        out.extend([0, 0]);
        out.extend(u32::try_from(value.len()).expect("short").to_le_bytes());
    } else {
        out.extend(u16::try_from(value.len()).expect("short").to_le_bytes());
    }
    out.extend(value);
}

/// A CT image with 256 elements before its pixel data.
fn ct(pixels: usize) -> Vec<u8> {
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    element(&mut file, (0x0002, 0x0010), *b"UI", b"1.2.840.10008.1.2.1\0");
    element(&mut file, (0x0008, 0x0016), *b"UI", b"1.2.840.10008.5.1.4.1.1.2\0");
    element(&mut file, (0x0008, 0x0018), *b"UI", b"1.2.3.4\0");
    element(&mut file, (0x0020, 0x000D), *b"UI", b"1.2\0");
    element(&mut file, (0x0020, 0x000E), *b"UI", b"1.2.3\0");
    for number in 0..247_u16 {
        element(&mut file, (0x0021, 0x1000 + number), *b"LO", b"sixteen letters ");
    }
    for (tag, value) in [(0x0002, 1_u16), (0x0010, 512), (0x0011, 512), (0x0100, 16), (0x0103, 0)] {
        element(&mut file, (0x0028, tag), *b"US", &value.to_le_bytes());
    }
    element(&mut file, (0x7FE0, 0x0010), *b"OW", &vec![0; pixels]);
    file
}

fn read(file: &[u8]) -> isocenter::dicom::header::Header {
    let mut reader = HeaderReader::new(HeaderLimits::default());
    for chunk in file.chunks(65_536) {
        reader.push(chunk).expect("well formed");
    }
    reader.finish().expect("complete")
}

#[divan::bench]
fn header_of_256_elements(bencher: Bencher) {
    let file = ct(0);
    bencher.bench(|| read(black_box(&file)));
}

#[divan::bench]
fn header_with_pixel_data_of_8_mib(bencher: Bencher) {
    let file = ct(8 << 20);
    bencher.bench(|| read(black_box(&file)));
}

/// An RLE image of so many frames of one fragment.
fn encapsulated(frames: u32) -> Vec<u8> {
    let mut file = ct(0);
    let head = file.len() - 12;
    file.truncate(head);
    element(&mut file, (0x0028, 0x0008), *b"IS", format!("{frames:<6}").as_bytes());
    file.extend([0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    file.extend([0xFE, 0xFF, 0, 0xE0, 0, 0, 0, 0]);
    for _ in 0..frames {
        file.extend([0xFE, 0xFF, 0, 0xE0, 4, 0, 0, 0, 1, 2, 3, 4]);
    }
    file.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    file
}

#[divan::bench]
fn frame_index_of_100_000_fragments(bencher: Bencher) {
    let file = encapsulated(100_000);
    bencher.bench(|| read(black_box(&file)));
}

#[divan::bench]
fn looking_up_the_last_of_100_000_frames(bencher: Bencher) {
    let stored = read(&encapsulated(100_000)).frames.store();
    bencher.bench(|| {
        let Ok(Located::InBlock(block)) = locate(&stored.head, black_box(100_000)) else { unreachable!("in blocks") };
        find_in_block(&stored.blocks[block as usize], 100_000)
    });
}

#[divan::bench]
fn looking_up_a_native_frame(bencher: Bencher) {
    let file = ct(512 * 512 * 2);
    let stored = read(&file).frames.store();
    let bytes = Bytes::from(file);
    bencher.bench(|| {
        let Ok(Located::Frame(extent)) = locate(&stored.head, black_box(1)) else { unreachable!("one frame") };
        let start = usize::try_from(extent.position).expect("small");
        extent.shape(bytes.slice(start..start + 512 * 512 * 2))
    });
}
