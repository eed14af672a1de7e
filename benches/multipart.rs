//! How fast a multipart body is read: bytes handed out for each second, beside one pass of `memchr` over the same bytes.
//!
//! `cargo bench --bench multipart`

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use futures_util::{FutureExt, stream};
use isocenter::http::multipart::Multipart;

/// Bytes of one chunk, as a connection delivers them.
const CHUNK: usize = 64 << 10;
const SIZES: &[usize] = &[10 << 10, 512 << 10, 64 << 20];

fn main() {
    divan::main();
}

/// A body of about 64 MiB in parts of one size.
fn body(part: usize) -> Vec<Bytes> {
    let data: Vec<u8> =
        (0..part).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 7 & 0xFF).unwrap_or(0)).collect();
    let mut body = Vec::new();
    for _ in 0..((64 << 20) / part) {
        body.extend_from_slice(b"--boundary-of-a-client\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend_from_slice(&data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--boundary-of-a-client--\r\n");
    let body = Bytes::from(body);
    (0..body.len()).step_by(CHUNK).map(|at| body.slice(at..body.len().min(at + CHUNK))).collect()
}

fn total(chunks: &[Bytes]) -> BytesCount {
    BytesCount::new(chunks.iter().map(Bytes::len).sum::<usize>())
}

#[divan::bench(args = SIZES)]
fn read(bencher: Bencher, part: usize) {
    let chunks = body(part);
    bencher.counter(total(&chunks)).bench(|| {
        let run = async {
            let chunks = stream::iter(chunks.iter().cloned().map(Ok));
            let mut multipart =
                Multipart::new("multipart/related; boundary=boundary-of-a-client", chunks).expect("a boundary");
            let mut bytes = 0;
            while let Some(mut part) = multipart.next_part().await.expect("a part") {
                while let Some(chunk) = part.next_chunk().await.expect("a chunk") {
                    bytes += black_box(chunk).len();
                }
            }
            bytes
        };
        run.now_or_never()
    });
}

#[divan::bench(args = SIZES)]
fn memchr_alone(bencher: Bencher, part: usize) {
    let chunks = body(part);
    bencher.counter(total(&chunks)).bench(|| {
        chunks
            .iter()
            .map(|chunk| {
                memchr::memchr_iter(b'\r', black_box(chunk)).filter(|at| chunk.get(at + 1) == Some(&b'\n')).count()
            })
            .sum::<usize>()
    });
}
