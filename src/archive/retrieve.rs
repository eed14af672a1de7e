//! From a resource to its bytes: instances as stored or in Explicit VR Little Endian, single frames, bulk data.
//!
//! A frame is one look-up in the index and one ranged read. Nothing here holds more than a few MiB of an object.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::archive::begun::{begun, of_instance};
use crate::archive::delete;
use crate::archive::object_reader::ObjectReader;
use crate::archive::reread::{Found, Whole, is_whole};
use crate::archive::rewritten::{Rewriter, rewritten};
use crate::catalogue::{Catalogue, InstanceMetadata, InstanceRow};
use crate::dicom::bulk::{self, BulkPath, BulkValue};
use crate::dicom::events::Limits;
use crate::dicom::explicit::{self, Export, Reencoder, Refront};
use crate::dicom::frames::{self, FrameBlock, FrameExtent, FrameShape, Located};
use crate::dicom::header::Extent;
use crate::dicom::transfer_syntax::{self, TransferSyntaxChoice};
use crate::dicom::uid::{InstanceKey, InstanceUid, Scope, TransferSyntaxUid};
use crate::error::{Error, ErrorKind, Result};
use crate::store::keys::StorageKey;
use crate::store::{ByteStream, ObjectStorage};

/// Largest piece of an object that is read at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Frames whose ranges lie in one stretch of so many bytes are read together.
const MERGED_BYTES: u64 = 4 << 20;
/// Largest gap between two ranges that is read over.
const GAP_BYTES: u64 = 64 << 10;
/// Most bytes that one request may have inflated more than once, by asking for frames in descending order.
const MOST_INFLATED_AGAIN: u64 = 1 << 30;
/// Most fragments of the frames of one request: their lengths are held.
const MOST_FRAGMENTS: usize = 16_000_000;

/// The way out: cheap to clone, shared by all protocols.
#[derive(Clone)]
pub struct Retrieve {
    catalogue: Catalogue,
    store: ObjectStorage,
}

/// Bytes on their way out.
pub struct Body {
    /// How many, where it is known before they are read.
    pub length: Option<u64>,
    /// Themselves.
    pub bytes: ByteStream,
}

/// An instance as it leaves.
pub struct OpenInstance {
    /// The transfer syntax in which it leaves.
    pub transfer_syntax: TransferSyntaxUid,
    /// A Part 10 file.
    pub body: Body,
}

/// The transfer syntax in which an instance leaves and what that takes: for the first choice that can be made.
fn plan(row: &InstanceRow, choices: &[TransferSyntaxChoice]) -> Option<(TransferSyntaxUid, Export)> {
    let stored = &row.transfer_syntax;
    let as_stored = match explicit::export(row.form, row.encoding, stored) {
        Export::Reencode => (explicit::reencoded_syntax(stored), Export::Reencode),
        export @ (Export::AsStored | Export::Refront) => (stored.clone(), export),
    };
    // Deflated data sets are native too, but leave re-encoded only when nobody asks for what is stored.
    let native = match stored.as_str() {
        transfer_syntax::DEFLATED => (explicit::reencoded_syntax(stored), Export::Reencode),
        _ => as_stored.clone(),
    };
    choices.iter().find_map(|choice| match choice {
        TransferSyntaxChoice::Default => Some(native.clone()),
        TransferSyntaxChoice::Any => Some(as_stored.clone()),
        TransferSyntaxChoice::Named(wanted) => {
            [&as_stored, &native].into_iter().find(|(made, _)| made == wanted).cloned()
        }
    })
}

impl Retrieve {
    /// Joins an index and an object store.
    #[must_use]
    pub fn new(catalogue: Catalogue, store: ObjectStorage) -> Self {
        Self { catalogue, store }
    }

    /// The row of an instance, of the newest version or of a named one.
    ///
    /// # Errors
    /// Not found, gone, or the index is unavailable.
    pub async fn locate(&self, key: &InstanceKey, version: Option<u32>) -> Result<InstanceRow> {
        match self.catalogue.locate(key, version).await? {
            Some(row) => Ok(row),
            None => Err(delete::missing(&self.catalogue, &Scope::Instance(key.clone())).await?),
        }
    }

    /// The rows of all instances of a resource, at least one.
    ///
    /// # Errors
    /// Not found, gone, or the index is unavailable.
    pub async fn instances(
        &self,
        scope: &Scope,
        version: Option<u32>,
    ) -> Result<BoxStream<'static, Result<InstanceRow>>> {
        if let Scope::Instance(key) = scope {
            let row = self.locate(key, version).await?;
            return Ok(stream::iter([Ok(row)]).boxed());
        }
        let mut rows = self.catalogue.instances(scope).boxed();
        match rows.next().await {
            Some(first) => Ok(stream::iter([Ok(first?)]).chain(rows).boxed()),
            None => Err(delete::missing(&self.catalogue, scope).await?),
        }
    }

    /// The metadata of all instances of a resource, at least one.
    ///
    /// # Errors
    /// Not found, gone, or the index is unavailable.
    pub async fn metadata(
        &self,
        scope: &Scope,
        version: Option<u32>,
    ) -> Result<BoxStream<'static, Result<InstanceMetadata>>> {
        if let (Scope::Instance(key), Some(_)) = (scope, version) {
            let row = self.locate(key, version).await?;
            let parts = self.catalogue.row_parts(row.id).await?;
            let json = parts.and_then(|parts| parts.metadata);
            let json = json.ok_or_else(|| Error::internal("the metadata of a version cannot be read"))?;
            return Ok(stream::iter([Ok(InstanceMetadata { key: key.clone(), json })]).boxed());
        }
        let mut rows = self.catalogue.metadata(scope).boxed();
        match rows.next().await {
            Some(first) => Ok(stream::iter([Ok(first?)]).chain(rows).boxed()),
            None => Err(delete::missing(&self.catalogue, scope).await?),
        }
    }

    /// The transfer syntax in which an instance would leave, without opening it.
    #[must_use]
    pub fn leaves_as(row: &InstanceRow, choices: &[TransferSyntaxChoice]) -> Option<TransferSyntaxUid> {
        plan(row, choices).map(|(uid, _)| uid)
    }

    /// Opens an instance as a Part 10 file, whose first bytes have come; `None` when it cannot be made in the transfer syntax
    /// wanted.
    ///
    /// # Errors
    /// The object store is unavailable or the object is lost.
    pub async fn open(&self, row: &InstanceRow, choices: &[TransferSyntaxChoice]) -> Result<Option<OpenInstance>> {
        let Some((transfer_syntax, export)) = plan(row, choices) else { return Ok(None) };
        // by its size, which says how much memory the first piece needs and holds the object to its row
        let (class, instance, syntax) = (&row.sop_class, &row.key.instance, &row.transfer_syntax);
        let stored = self.store.read_range(&location(row), 0..row.size).await;
        let stored = stored.map_err(|error| of_instance(instance, error))?;
        let rewriter = match export {
            Export::AsStored => None,
            Export::Refront => Some(Rewriter::Refront(Refront::new(class, instance, syntax))),
            Export::Reencode => {
                Some(Rewriter::Reencode(Box::new(Reencoder::new(class, instance, syntax, Limits::default()))))
            }
        };
        let (length, bytes) = match rewriter {
            None => (Some(row.size), stored),
            Some(rewriter) => (None, rewritten(stored, rewriter)),
        };
        let bytes = match begun(instance, bytes).await {
            Err(error) if error.kind() == ErrorKind::Internal => {
                return Err(self.why_not_rewritten(row, error).await?);
            }
            begun => begun?,
        };
        Ok(Some(OpenInstance { transfer_syntax, body: Body { length, bytes } }))
    }

    /// What cannot be read as a data set may be damaged: that is found out here, where it costs nobody else anything.
    async fn why_not_rewritten(&self, row: &InstanceRow, error: Error) -> Result<Error> {
        let whole = Whole { size: row.size, digest: row.digest };
        Ok(match is_whole(&self.store, &location(row), whole).await? {
            Found::Whole => error,
            Found::Damaged | Found::Nothing => {
                of_instance(&row.key.instance, Error::lost("it has other bytes than were stored").caused_by(error))
            }
        })
    }

    /// Whether the instance has frames that can be addressed.
    ///
    /// # Errors
    /// The frame index is damaged.
    pub fn has_frames(&self, row: &InstanceRow) -> Result<bool> {
        Ok(!matches!(frames::locate(&row.frames, 1).map_err(damaged)?, Located::Beyond(_)))
    }

    /// Frames by number, in the order asked for; ranges that are neighbours are read together.
    ///
    /// # Errors
    /// A frame does not exist, or the index is unavailable; errors of reading come in the stream.
    pub async fn frames(&self, row: &InstanceRow, numbers: &[u32]) -> Result<Frames> {
        let extents = self.frame_extents(row, numbers).await?;
        let lengths = extents.iter().map(FrameExtent::frame_length).collect();
        let deflated = extents.iter().any(FrameExtent::is_deflated);
        let reader = Arc::new(self.reader(row, deflated));
        let native = extents.iter().all(|extent| matches!(extent.shape, FrameShape::Native { .. }));
        let groups = neighbours(extents);
        if deflated && inflated_again(&groups) > MOST_INFLATED_AGAIN {
            return Err(Error::bad_request(format!(
                "frames of a deflated instance in this order would inflate more than {MOST_INFLATED_AGAIN} bytes again; \
                 ask for them in ascending order"
            )));
        }
        let pieces = stream::iter(groups).then(move |group| read_group(Arc::clone(&reader), group));
        let instance = row.key.instance.clone();
        Ok(Frames { lengths, native, instance, pieces: pieces.try_flatten().boxed() })
    }

    /// Looks frames up in ascending order, so that each block of the index is read and walked once.
    async fn frame_extents(&self, row: &InstanceRow, numbers: &[u32]) -> Result<Vec<FrameExtent>> {
        let mut order: Vec<(u32, usize)> = numbers.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut found = Vec::with_capacity(numbers.len());
        let mut block: Option<(u32, FrameBlock)> = None;
        let mut fragments = 0_usize;
        for (number, index) in order {
            let extent = match found.last() {
                Some((last, _, extent)) if *last == number => FrameExtent::clone(extent),
                _ => self.frame_extent(row, number, &mut block).await?,
            };
            if let FrameShape::Encapsulated(lengths) = &extent.shape {
                fragments = fragments.saturating_add(lengths.len());
            }
            if fragments > MOST_FRAGMENTS {
                let message = format!("the frames have more than {MOST_FRAGMENTS} fragments; ask for fewer at once");
                return Err(Error::bad_request(message));
            }
            found.push((number, index, extent));
        }
        found.sort_unstable_by_key(|(_, index, _)| *index);
        Ok(found.into_iter().map(|(.., extent)| extent).collect())
    }

    /// One frame; numbers within a block must ascend.
    async fn frame_extent(
        &self,
        row: &InstanceRow,
        number: u32,
        open: &mut Option<(u32, FrameBlock)>,
    ) -> Result<FrameExtent> {
        match frames::locate(&row.frames, number).map_err(damaged)? {
            Located::Frame(extent) => Ok(extent),
            Located::Beyond(0) => Err(Error::not_found("the instance has no frames that can be addressed")),
            Located::Beyond(count) => {
                Err(Error::not_found(format!("there is no frame `{number}`: the instance has frames 1 to {count}")))
            }
            Located::InBlock(block) => {
                let walk = match open {
                    Some((held, walk)) if *held == block => walk,
                    _ => {
                        let bytes = self.catalogue.frame_block(row.id, block).await?;
                        &mut open.insert((block, FrameBlock::new(bytes).map_err(damaged)?)).1
                    }
                };
                walk.find(number).map_err(damaged)
            }
        }
    }

    /// Where the value that a BulkDataURI names lies.
    ///
    /// # Errors
    /// The metadata names no such bulk data, or the index is unavailable.
    pub async fn bulk(&self, row: &InstanceRow, path: &BulkPath) -> Result<BulkValue> {
        let index = self.catalogue.bulk_index(row.id).await?;
        bulk::find(&index, path)?
            .ok_or_else(|| Error::not_found("the metadata of the instance names no such bulk data"))
    }

    /// The bytes of a plain value, little endian, the first of which have come.
    ///
    /// # Errors
    /// The object store is unavailable or the object is lost.
    pub async fn value(&self, row: &InstanceRow, value: &BulkValue, swap: u8) -> Result<Body> {
        let Extent { position, length } = value.extent;
        let reader = Arc::new(self.reader(row, value.deflated));
        let shape = FrameShape::Native { first_bit: 0, bits: length * 8, swap, deflated: value.deflated };
        let bytes = piecewise(reader, FrameExtent { position, length, shape });
        Ok(Body { length: Some(length), bytes: begun(&row.key.instance, bytes).await? })
    }

    /// The fragments of encapsulated pixel data joined to one code stream, the Basic Offset Table left out. Its first bytes have
    /// come.
    ///
    /// # Errors
    /// The object store is unavailable or the object is lost.
    pub async fn code_stream(&self, row: &InstanceRow, value: &BulkValue) -> Result<Body> {
        let Extent { position, length } = value.extent;
        let instance = &row.key.instance;
        let items = self.store.read_range(&location(row), position..position + length).await;
        let items = items.map_err(|error| of_instance(instance, error))?;
        Ok(Body { length: None, bytes: begun(instance, joined(items, Joiner::default())).await? })
    }

    fn reader(&self, row: &InstanceRow, deflated: bool) -> ObjectReader {
        ObjectReader::new(self.store.clone(), location(row), deflated)
    }
}

/// Frames on their way out.
pub struct Frames {
    /// Bytes of each frame, in the order asked for.
    pub lengths: Vec<u64>,
    /// They come from native pixel data, so they are little endian samples.
    pub native: bool,
    /// The instance to which they belong.
    instance: InstanceUid,
    /// Their bytes.
    pieces: FramePieces,
}

impl Frames {
    /// Their bytes, the first of which have come.
    ///
    /// # Errors
    /// The object store is unavailable or the object is lost.
    pub async fn begin(self) -> Result<FramePieces> {
        begun(&self.instance, self.pieces).await
    }
}

/// Bytes of frames with the index of the frame in the list: ascending, at least one piece (maybe empty) for each.
pub type FramePieces = BoxStream<'static, Result<(usize, Bytes)>>;

fn damaged(error: frames::Corrupt) -> Error {
    Error::internal("the frame index does not fit the object").caused_by(error)
}

fn location(row: &InstanceRow) -> StorageKey {
    StorageKey::from_index(row.location.clone())
}

/// Frames that one read brings.
struct Group {
    range: Range<u64>,
    frames: Vec<(usize, FrameExtent)>,
}

/// Joins frames that follow each other closely, up to a bound; larger frames stay alone and are read in pieces.
fn neighbours(extents: Vec<FrameExtent>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, extent) in extents.into_iter().enumerate() {
        let range = extent.position..extent.position.saturating_add(extent.length);
        if let Some(group) = groups.last_mut()
            // frames of single bits share a byte with the next one
            && range.start >= group.range.start
            && range.start.saturating_sub(group.range.end) <= GAP_BYTES
            && range.end.max(group.range.end) - group.range.start <= MERGED_BYTES
        {
            group.range.end = group.range.end.max(range.end);
            group.frames.push((index, extent));
        } else {
            groups.push(Group { range, frames: vec![(index, extent)] });
        }
    }
    groups
}

/// Bytes that are inflated more than once when these groups are read one after the other.
fn inflated_again(groups: &[Group]) -> u64 {
    let mut position = 0_u64;
    groups.iter().fold(0, |sum, Group { range, .. }| {
        let again = if range.start.saturating_add(1) < position { range.end.min(position) } else { 0 };
        position = range.end;
        sum.saturating_add(again)
    })
}

async fn read_group(reader: Arc<ObjectReader>, group: Group) -> Result<FramePieces> {
    let Group { range, mut frames } = group;
    if range.end - range.start > MERGED_BYTES
        && let Some((index, frame)) = frames.pop()
    {
        return Ok(piecewise(reader, frame).map_ok(move |piece| (index, piece)).boxed());
    }
    let bytes = reader.read(range.clone()).await?;
    let frames = frames.into_iter().map(move |(index, frame)| {
        let start = usize::try_from(frame.position - range.start).unwrap_or(usize::MAX);
        let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
        Ok((index, frame.shape(bytes.slice(start..start + length)).map_err(damaged)?))
    });
    Ok(stream::iter(frames).boxed())
}

/// A frame or value of any size in pieces. That of many fragments is one read, for each costs a request to the store.
fn piecewise(reader: Arc<ObjectReader>, extent: FrameExtent) -> BoxStream<'static, Result<Bytes>> {
    if let FrameShape::Encapsulated(fragments) = &extent.shape {
        let joiner = Joiner::within(fragments.first().copied().unwrap_or(0));
        let range = extent.position..extent.position.saturating_add(extent.length);
        let open = async move { reader.stream(range).await };
        return stream::once(open).map_ok(move |items| joined(items, joiner.clone())).try_flatten().boxed();
    }
    let pieces = stream::iter(pieces(extent)).then(move |piece| {
        let reader = Arc::clone(&reader);
        async move {
            let bytes = reader.read(piece.position..piece.position + piece.length).await?;
            piece.shape(bytes).map_err(damaged)
        }
    });
    pieces.boxed()
}

/// Cuts native pixel data into extents of about [`PIECE_BYTES`] that together give its bytes.
fn pieces(extent: FrameExtent) -> Box<dyn Iterator<Item = FrameExtent> + Send> {
    let FrameExtent { position, length, shape } = extent;
    let FrameShape::Native { first_bit, bits, swap, deflated } = shape else {
        return Box::new(std::iter::once(FrameExtent { position, length, shape }));
    };
    let piece_bits = PIECE_BYTES * 8;
    let word_bytes = u64::from(swap.max(1));
    Box::new((0..bits.div_ceil(piece_bits)).map(move |piece| {
        let start = piece * PIECE_BYTES;
        let bits = piece_bits.min(bits - piece * piece_bits);
        let words = (u64::from(first_bit) + bits).div_ceil(word_bytes * 8);
        let length = (words * word_bytes).min(length - start);
        let shape = FrameShape::Native { first_bit, bits, swap, deflated };
        FrameExtent { position: position + start, length, shape }
    }))
}

/// Fragments without what stands between them.
fn joined(items: ByteStream, joiner: Joiner) -> ByteStream {
    let joined = stream::try_unfold((items, joiner), |(mut items, mut joiner)| async move {
        let Some(chunk) = items.next().await else { return Ok::<_, Error>(None) };
        Ok(Some((stream::iter(joiner.push(chunk?).into_iter().map(Ok)), (items, joiner))))
    });
    joined.try_flatten().boxed()
}

/// Takes the item headers out of encapsulated pixel data as it passes (PS3.5 A.4).
#[derive(Clone, Default)]
struct Joiner {
    header: Vec<u8>,
    /// Bytes of the open item that have not come yet.
    left: usize,
    /// Items begun; the first is the Basic Offset Table.
    items: u64,
}

impl Joiner {
    /// Begins within the first fragment of a frame, which has so many bytes.
    fn within(first: u32) -> Self {
        Self { header: Vec::new(), left: first as usize, items: 2 }
    }

    fn push(&mut self, mut chunk: Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while !chunk.is_empty() {
            if self.left > 0 {
                let piece = chunk.split_to(self.left.min(chunk.len()));
                self.left -= piece.len();
                if self.items > 1 {
                    pieces.push(piece);
                }
                continue;
            }
            self.header.extend_from_slice(&chunk.split_to(chunk.len().min(8 - self.header.len())));
            if let Ok([0xFE, 0xFF, 0x00, 0xE0, length @ ..]) = <[u8; 8]>::try_from(self.header.as_slice()) {
                self.left = u32::from_le_bytes(length) as usize;
                self.items += 1;
            }
            if self.header.len() == 8 {
                self.header.clear();
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::InstanceId;
    use crate::dicom::header::Form;
    use crate::dicom::transfer_syntax::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, Encoding, IMPLICIT_LITTLE};
    use crate::dicom::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid};

    const JPEG: &str = "1.2.840.10008.1.2.4.50";
    const JP2: &str = "1.2.840.10008.1.2.4.90";
    const PRIVATE: &str = "1.2.3.4";

    fn stored(syntax: &str, form: Form) -> InstanceRow {
        let transfer_syntax = TransferSyntaxUid::parse(syntax).unwrap();
        InstanceRow {
            id: InstanceId(1),
            key: InstanceKey {
                study: StudyUid::parse("1").unwrap(),
                series: SeriesUid::parse("1.1").unwrap(),
                instance: InstanceUid::parse("1.1.1").unwrap(),
            },
            sop_class: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            encoding: Encoding::of(&transfer_syntax),
            transfer_syntax,
            form,
            location: String::new(),
            size: 0,
            digest: [0; 32],
            received_at: 0,
            number_of_frames: 1,
            frames: Vec::new(),
            series_version: 1,
        }
    }

    #[test]
    fn an_instance_leaves_as_stored_or_as_explicit_little_endian_and_never_implicit_or_big_endian() {
        use Export::{AsStored, Reencode, Refront};
        use Form::{Bare, NoPreamble, Part10};
        let cases = [
            ("", EXPLICIT_LITTLE, Part10, Some((EXPLICIT_LITTLE, AsStored))),
            ("", IMPLICIT_LITTLE, Part10, Some((EXPLICIT_LITTLE, Reencode))),
            ("", EXPLICIT_BIG, Part10, Some((EXPLICIT_LITTLE, Reencode))),
            ("", DEFLATED, Part10, Some((EXPLICIT_LITTLE, Reencode))),
            ("", JP2, Part10, Some((JP2, AsStored))),
            ("", PRIVATE, Part10, Some((PRIVATE, AsStored))),
            ("", EXPLICIT_LITTLE, Bare, Some((EXPLICIT_LITTLE, Refront))),
            ("*", EXPLICIT_LITTLE, Part10, Some((EXPLICIT_LITTLE, AsStored))),
            ("*", EXPLICIT_LITTLE, NoPreamble, Some((EXPLICIT_LITTLE, Refront))),
            ("*", IMPLICIT_LITTLE, Part10, Some((EXPLICIT_LITTLE, Reencode))),
            ("*", IMPLICIT_LITTLE, Bare, Some((EXPLICIT_LITTLE, Reencode))),
            ("*", EXPLICIT_BIG, Part10, Some((EXPLICIT_LITTLE, Reencode))),
            ("*", DEFLATED, Part10, Some((DEFLATED, AsStored))),
            ("*", JP2, Part10, Some((JP2, AsStored))),
            (EXPLICIT_LITTLE, IMPLICIT_LITTLE, Part10, Some((EXPLICIT_LITTLE, Reencode))),
            (EXPLICIT_LITTLE, EXPLICIT_LITTLE, Part10, Some((EXPLICIT_LITTLE, AsStored))),
            (EXPLICIT_LITTLE, DEFLATED, Part10, Some((EXPLICIT_LITTLE, Reencode))),
            (EXPLICIT_LITTLE, JP2, Part10, None),
            (IMPLICIT_LITTLE, IMPLICIT_LITTLE, Part10, None),
            (EXPLICIT_BIG, EXPLICIT_BIG, Part10, None),
            (DEFLATED, DEFLATED, Part10, Some((DEFLATED, AsStored))),
            (DEFLATED, EXPLICIT_LITTLE, Part10, None),
            (JP2, JP2, Part10, Some((JP2, AsStored))),
            (JPEG, JP2, Part10, None),
        ];
        for (asked, syntax, form, expected) in cases {
            let choice = match asked {
                "" => TransferSyntaxChoice::Default,
                "*" => TransferSyntaxChoice::Any,
                uid => TransferSyntaxChoice::Named(TransferSyntaxUid::parse(uid).unwrap()),
            };
            let row = stored(syntax, form);
            let planned = plan(&row, &[choice]);
            let planned = planned.as_ref().map(|(syntax, export)| (syntax.as_str(), *export));
            assert_eq!(planned, expected, "`{asked}` of {syntax} {form:?}");
        }
    }

    #[test]
    fn a_frame_in_pieces_is_the_frame_in_one() {
        let object: Bytes = (0..5 << 20)
            .map(|n: u32| n.to_le_bytes()[usize::from(n.is_multiple_of(3))] ^ (n >> 11).to_le_bytes()[0])
            .collect();
        let native = |first_bit, bits, swap| FrameShape::Native { first_bit, bits, swap, deflated: false };
        let big = 3 * PIECE_BYTES + 777;
        for (length, shape) in [
            (big, native(0, big * 8, 1)),
            (big + 1, native(0, (big + 1) * 8, 2)),
            (big + 1, native(3, big * 8, 1)),
            (big + 1, native(13, big * 8 - 16, 2)),
            (2, native(5, 9, 1)),
        ] {
            let extent = FrameExtent { position: 11, length, shape };
            let at = |position: u64| usize::try_from(position).unwrap();
            let read = |piece: &FrameExtent| object.slice(at(piece.position)..at(piece.position + piece.length));
            let whole = extent.shape(read(&extent)).unwrap();
            assert_eq!(whole.len() as u64, extent.frame_length());
            let joined: Vec<Bytes> = pieces(extent.clone()).map(|piece| piece.shape(read(&piece)).unwrap()).collect();
            assert!(joined.len() > 1 || extent.length < PIECE_BYTES);
            assert!(joined.concat() == whole, "{extent:?}");
        }
    }

    #[test]
    fn a_frame_of_fragments_comes_without_their_headers_whatever_the_chunks() {
        let stored = b"abc\xFE\xFF\x00\xE0\x02\0\0\0de\xFE\xFF\x00\xE0\x01\0\0\0f";
        for size in 1..=stored.len() {
            let mut joiner = Joiner::within(3);
            let chunks = stored.chunks(size).flat_map(|chunk| joiner.push(Bytes::copy_from_slice(chunk)));
            assert_eq!(chunks.collect::<Vec<_>>().concat(), b"abcdef", "chunks of {size}");
        }
    }

    #[test]
    fn only_frames_that_go_back_are_inflated_again() {
        let cost = |starts: &[u64]| {
            let extent = |&start: &u64| FrameExtent {
                position: start << 20,
                length: 1 + (1 << 20),
                shape: FrameShape::Native { first_bit: 1, bits: 8 << 20, swap: 1, deflated: true },
            };
            inflated_again(&neighbours(starts.iter().map(extent).collect())) >> 20
        };
        assert_eq!(cost(&[0, 1, 2, 3, 4, 5, 6, 7, 20, 20]), 0);
        assert_eq!(cost(&[9, 5, 1]), 6 + 2);
    }

    #[test]
    fn a_code_stream_has_neither_item_headers_nor_offset_table_whatever_the_chunks() {
        let mut stored = Vec::new();
        for (tag, value) in [(0xE0, &b"\0\0\0\0"[..]), (0xE0, b"abcd"), (0xE0, b""), (0xE0, b"ef"), (0xDD, b"")] {
            stored.extend([0xFE, 0xFF, if tag == 0xDD { 0xDD } else { 0x00 }, 0xE0]);
            stored.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
            stored.extend(value);
        }
        for size in 1..=stored.len() {
            let mut joiner = Joiner::default();
            let joined: Vec<Bytes> =
                stored.chunks(size).flat_map(|chunk| joiner.push(Bytes::copy_from_slice(chunk))).collect();
            assert_eq!(joined.concat(), b"abcdef", "chunks of {size}");
        }
    }
}
