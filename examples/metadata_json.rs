//! Prints the metadata of DICOM files as DICOM JSON, one line each: the path, a tab, the JSON, or nothing for what is not readable.
//! `tests/interop/json_vs_pydicom.py` compares them with what pydicom makes of the same files.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use isocenter::dicom::header::{HeaderLimits, HeaderReader};
use isocenter::dicom::json::write_metadata;

fn main() -> ExitCode {
    // a threshold that leaves nothing but pixel data as bulk data
    let limits = HeaderLimits { binary: u32::MAX, text: u32::MAX, value: u32::MAX, ..HeaderLimits::default() };
    let mut out = BufWriter::new(std::io::stdout().lock());
    for path in std::env::args_os().skip(1) {
        let json = std::fs::read(&path).ok().and_then(|bytes| {
            let mut reader = HeaderReader::new(limits);
            reader.push(&bytes).ok()?;
            reader.finish_anonymous().ok().map(|header| write_metadata(&header).json)
        });
        let written = out
            .write_all(path.as_encoded_bytes())
            .and_then(|()| out.write_all(b"\t"))
            .and_then(|()| out.write_all(&json.unwrap_or_default()))
            .and_then(|()| out.write_all(b"\n"));
        if written.is_err() {
            return ExitCode::FAILURE;
        }
    }
    if out.flush().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
