//! An object that leaves in another form than it is stored in, a little at a time.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::dicom::explicit::{Reencoder, Refront};
use crate::error::{Error, Result};
use crate::store::ByteStream;

/// Stored bytes that are re-encoded at once: deflate makes up to a thousand times as many of them.
const SLICE_BYTES: usize = 8 << 10;
/// Re-encoded bytes that are sent at once.
const OUT_BYTES: usize = 256 << 10;

/// Bytes of an object while they pass through a rewriter.
pub(super) fn rewritten(object: ByteStream, rewriter: Rewriter) -> ByteStream {
    let state = Rewriting { object, rewriter, pending: Bytes::new() };
    stream::try_unfold(Some(state), |state| async move {
        let Some(state) = state else { return Ok(None) };
        let mut out = Vec::with_capacity(OUT_BYTES + (64 << 10));
        let state = state.fill(&mut out).await?;
        Ok((!out.is_empty()).then(|| (Bytes::from(out), state)))
    })
    .boxed()
}

/// What makes other bytes of those that are stored.
pub(super) enum Rewriter {
    /// Puts another front before the data set.
    Refront(Refront),
    /// Writes the data set in Explicit VR Little Endian.
    Reencode(Box<Reencoder>),
}

struct Rewriting {
    object: ByteStream,
    rewriter: Rewriter,
    pending: Bytes,
}

impl Rewriting {
    /// Appends about [`OUT_BYTES`]; gives itself back unless the object is over.
    async fn fill(mut self, out: &mut Vec<u8>) -> Result<Option<Self>> {
        let failed = |error| Error::internal("a stored object cannot be re-encoded").caused_by(error);
        while out.len() < OUT_BYTES {
            if self.pending.is_empty() {
                let Some(chunk) = self.object.next().await else {
                    match self.rewriter {
                        Rewriter::Refront(refront) => refront.finish(out).map_err(failed)?,
                        Rewriter::Reencode(reencoder) => reencoder.finish(out).map_err(failed)?,
                    }
                    return Ok(None);
                };
                self.pending = chunk?;
            }
            let slice = self.pending.split_to(self.pending.len().min(SLICE_BYTES));
            match &mut self.rewriter {
                Rewriter::Refront(refront) => refront.push(&slice, out).map_err(failed)?,
                Rewriter::Reencode(reencoder) => reencoder.push(&slice, out).map_err(failed)?,
            }
        }
        Ok(Some(self))
    }
}
