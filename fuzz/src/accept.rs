//! What a client accepts: any text leads to a representation that can be made, or to 406, or for the query parameter to 400.
//!
//! Input: a byte that says what is asked for, the header, a line feed, the query string.

use isocenter::dicom::transfer_syntax::TransferSyntaxChoice;
use isocenter::dicom::uid::TransferSyntaxUid;
use isocenter::dicomweb::accept::{Accept, Resource};
use isocenter::error::ErrorKind;
use isocenter::http::media_type::MediaType;

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = super::first(data) else { return };
    let (header, query) = super::line(rest);
    let (header, query) = (String::from_utf8_lossy(header), String::from_utf8_lossy(query));
    let accept = match Accept::parse((kind & 0x80 == 0).then_some(&header), &query) {
        Ok(accept) => accept,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            assert!(!query.is_empty(), "a header is never refused");
            return;
        }
    };
    let one = kind & 0x40 == 0;
    let syntaxes = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5", "1.2.3"];
    let stored = TransferSyntaxUid::parse(syntaxes[usize::from(kind >> 3 & 3)]).expect("a UID");
    let resource = match kind & 7 {
        0 => Resource::Json,
        1 => Resource::Response,
        2 => Resource::Instances { one },
        3 => Resource::Frames { stored: &stored, native: true, one },
        4 => Resource::Frames { stored: &stored, native: false, one },
        5 => Resource::Bulk { media_type: "application/pdf", one },
        _ => Resource::Bulk { media_type: "application/octet-stream", one },
    };
    match accept.negotiate(resource) {
        Ok(found) => {
            assert!(!found.transfer_syntaxes.is_empty());
            let media_type = MediaType::parse(&found.content_type()).expect("a media type");
            assert_eq!(media_type.essence, found.media_type);
            assert!(one || found.multipart || matches!(resource, Resource::Json | Resource::Response));
            if matches!(resource, Resource::Frames { .. }) {
                assert!(matches!(&found.transfer_syntaxes[..], [TransferSyntaxChoice::Named(_)]));
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotAcceptable);
            assert!(!header.trim().is_empty() || !query.is_empty(), "whoever asks for nothing gets the default");
        }
    }
}
