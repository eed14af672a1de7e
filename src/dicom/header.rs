//! A parsed instance without its bulk: attributes with their raw values, the frame index, and what kind of file it came in.
//!
//! Values are held up to a threshold and left in the object beyond it; held values are always little endian.

use std::ops::Range;

use dicom_core::{Tag, VR};

use crate::dicom::events::{Limits, ParseError};
use crate::dicom::fragments::{NumberOfFrames, PixelAttributes};
use crate::dicom::frames::FrameIndex;
use crate::dicom::identity::{self, Identity, IdentityError};
use crate::dicom::stream::{FileMeta, Front, Stream};
use crate::dicom::transfer_syntax::{self, Encoding};
use crate::dicom::tree::TreeBuilder;
use crate::dicom::uid::TransferSyntaxUid;

const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028, 0x0004);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);

/// How the bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Preamble, `DICM`, file meta information, data set.
    Part10,
    /// Something of it is missing: the preamble of 128 bytes, `DICM`, or the transfer syntax in the file meta information.
    NoPreamble,
    /// A data set alone.
    Bare,
}

/// Bytes in the stored object, counted in the inflated data set for deflated ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extent {
    /// First byte.
    pub position: u64,
    /// How many.
    pub length: u64,
}

/// All that ingest learns from one pass over the bytes.
#[derive(Clone, Debug)]
pub struct Header {
    /// How the bytes came.
    pub form: Form,
    /// What the file meta information says.
    pub meta: FileMeta,
    /// The transfer syntax as named in the file meta information, or as found out.
    pub transfer_syntax: TransferSyntaxUid,
    /// How the data set is really encoded (a file may lie).
    pub encoding: Encoding,
    /// First byte of the data set in the file, of the deflate stream for deflated ones.
    pub dataset_position: u64,
    /// The root data set, pixel data and what follows it included.
    pub dataset: Dataset,
    /// Where the frames are.
    pub frames: FrameIndex,
    /// How many frames there are: as indexed, or as the data set says where they cannot be addressed. 0 without pixel data.
    pub number_of_frames: u32,
    /// The held values, one after the other.
    pub(crate) arena: Vec<u8>,
}

/// The elements of a data set or an item, ascending by tag, each tag once: of several the last wins.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// Its elements.
    pub elements: Vec<Element>,
}

/// One element.
#[derive(Clone, Debug)]
pub struct Element {
    /// Group and element.
    pub tag: Tag,
    /// Value representation.
    pub vr: VR,
    /// Where the value lies in the object; zero length for sequences. Encapsulated pixel data reaches from its first item
    /// header to the end of its delimiter.
    pub extent: Extent,
    /// In the object the value has its most significant byte first. Not all elements of an object agree: in a big endian
    /// one, sequences of VR UN with undefined length are little endian (PS3.5 6.2.2).
    pub big_endian: bool,
    /// What is known of the value.
    pub content: Content,
}

/// The value of an element.
#[derive(Clone, Debug)]
pub enum Content {
    /// Held: see [`Header::value`].
    Held(Range<u32>),
    /// Over the threshold, or pixel data: left in the object.
    Left,
    /// A sequence.
    Items(Vec<Dataset>),
    /// Encapsulated pixel data.
    Fragments,
}

/// Why a stream gives no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It can, but does not say which instance it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Bounds of what one header may hold.
#[derive(Clone, Copy, Debug)]
pub struct HeaderLimits {
    /// Of the parser.
    pub parser: Limits,
    /// Longer values of OB, OD, OF, OL, OV, OW and UN are left in the object.
    pub binary: u32,
    /// Longer values of the other VRs that may be bulk data are left in the object.
    pub text: u32,
    /// A longer value of a VR that may not is refused.
    pub value: u32,
    /// Most bytes of memory for one header: values and tree.
    pub bytes: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self { parser: Limits::default(), binary: 1024, text: 64 * 1024, value: 1024 * 1024, bytes: 64 * 1024 * 1024 }
    }
}

/// Reads a header from a stream pushed into it.
#[derive(Debug)]
pub struct HeaderReader {
    stream: Stream,
    tree: TreeBuilder,
    identity: Option<Identity>,
}

impl HeaderReader {
    /// Begins to read.
    #[must_use]
    pub fn new(limits: HeaderLimits) -> Self {
        Self { stream: Stream::new(limits.parser), tree: TreeBuilder::new(limits), identity: None }
    }

    /// The next bytes, any number of them.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ParseError> {
        self.stream.push(chunk, &mut self.tree)?;
        // looking walks the root, so after a UID that is none it is done again only when all four have come anew
        if self.identity.is_none() && self.tree.identified() {
            let meta = self.stream.front().map(|front| &front.meta);
            let known = self.tree.root().zip(meta);
            self.identity = known.and_then(|((root, arena), meta)| identity::identify(root, arena, meta).ok());
        }
        Ok(())
    }

    /// Which instance it is, as soon as all four UIDs have come and are valid.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Bytes of memory that are held for the header so far.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.tree.held_bytes()
    }

    /// Whether the data set is inflated as it comes.
    #[must_use]
    pub fn is_deflated(&self) -> bool {
        let syntax = self.front().and_then(|front| front.meta.transfer_syntax.as_ref());
        syntax.is_some_and(|syntax| Encoding::of(syntax).deflated)
    }

    /// What came before the data set, once that has begun.
    #[must_use]
    pub fn front(&self) -> Option<&Front> {
        self.stream.front()
    }

    /// The stream is over: the header of an instance with an identity.
    pub fn finish(self) -> Result<Header, HeaderError> {
        let ambiguous = self.tree.is_ambiguous();
        let header = self.finish_anonymous()?;
        header.identity()?;
        if ambiguous { Err(IdentityError::Ambiguous.into()) } else { Ok(header) }
    }

    /// The stream is over: the header, whether it says which instance it is or not.
    pub fn finish_anonymous(mut self) -> Result<Header, ParseError> {
        self.stream.finish(&mut self.tree)?;
        let Some(front) = self.stream.front().cloned() else { return Err(ParseError::NotDicom) };
        let encoding = self.stream.encoding();
        let transfer_syntax = front.meta.transfer_syntax.clone().unwrap_or_else(|| transfer_syntax::of(encoding));
        let (dataset, arena, scanner) = self.tree.finish();
        let pixels = pixel_attributes(&dataset, &arena);
        let (frames, number_of_frames) = scanner.finish(&pixels, &transfer_syntax, encoding.deflated);
        Ok(Header {
            form: front.form,
            meta: front.meta,
            transfer_syntax,
            encoding,
            dataset_position: front.dataset,
            dataset,
            frames,
            number_of_frames,
            arena,
        })
    }
}

impl Header {
    /// The held value of an element, little endian, with its padding; empty when it is not held.
    #[must_use]
    pub fn value(&self, element: &Element) -> &[u8] {
        value(&self.arena, element)
    }

    /// Which instance it is.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        identity::identify(&self.dataset, &self.arena, &self.meta)
    }
}

impl Dataset {
    /// The element of this tag.
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&Element> {
        self.elements.binary_search_by_key(&tag, |element| element.tag).ok().map(|index| &self.elements[index])
    }

    /// The items of a sequence; none when it is absent or something else.
    #[must_use]
    pub fn items(&self, tag: Tag) -> &[Dataset] {
        match self.get(tag).map(|element| &element.content) {
            Some(Content::Items(items)) => items,
            Some(Content::Held(_) | Content::Left | Content::Fragments) | None => &[],
        }
    }
}

pub(super) fn value<'a>(arena: &'a [u8], element: &Element) -> &'a [u8] {
    match &element.content {
        Content::Held(range) => &arena[range.start as usize..range.end as usize],
        Content::Left | Content::Items(_) | Content::Fragments => &[],
    }
}

/// What frames are computed from.
fn pixel_attributes(root: &Dataset, arena: &[u8]) -> PixelAttributes {
    let bytes = |tag: Tag| root.get(tag).map_or(&[][..], |element| value(arena, element));
    let number = |tag: Tag| bytes(tag).first_chunk().map_or(0, |bytes| u64::from(u16::from_le_bytes(*bytes)));
    PixelAttributes {
        rows: number(ROWS),
        columns: number(COLUMNS),
        samples: number(SAMPLES_PER_PIXEL).max(1),
        bits_allocated: number(BITS_ALLOCATED),
        chroma_halved: matches!(bytes(PHOTOMETRIC_INTERPRETATION).trim_ascii(), b"YBR_FULL_422" | b"YBR_PARTIAL_422"),
        number_of_frames: NumberOfFrames::parse(bytes(NUMBER_OF_FRAMES)),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{Tag, VR};

    use super::{Content, Extent, Header, HeaderError, HeaderLimits, HeaderReader};
    use crate::dicom::events::{Bound, ParseError};
    use crate::dicom::identity::IdentityError;
    use crate::dicom::samples::{self, BIG, EXPLICIT, UNDEFINED, Writer};
    use crate::dicom::transfer_syntax::{EXPLICIT_BIG, EXPLICIT_LITTLE};
    use crate::dicom::vr::PIXEL_DATA;

    fn read(file: &[u8], limits: HeaderLimits) -> Result<Header, HeaderError> {
        let mut reader = HeaderReader::new(limits);
        for chunk in file.chunks(1000) {
            reader.push(chunk)?;
        }
        reader.finish()
    }

    fn little(dataset: impl FnOnce(&mut Writer)) -> Vec<u8> {
        samples::file(EXPLICIT_LITTLE, EXPLICIT, dataset)
    }

    #[test]
    fn values_are_held_up_to_their_threshold_and_left_beyond() {
        let front = samples::part10(EXPLICIT_LITTLE).len() as u64;
        for (vr, length, held) in [
            (VR::OB, 1024, true),
            (VR::OB, 1026, false),
            (VR::UN, 1026, false),
            (VR::UT, 65_536, true),
            (VR::UT, 65_538, false),
            (VR::UC, 65_538, false),
            (VR::UR, 65_538, true),
        ] {
            let file = little(|writer| {
                writer.put(Tag(0x0009, 0x1001), vr, &vec![b'1'; length]).identity();
            });
            let header = read(&file, HeaderLimits::default()).unwrap();
            let element = header.dataset.get(Tag(0x0009, 0x1001)).unwrap();
            assert_eq!(element.extent, Extent { position: front + 12, length: length as u64 });
            assert_eq!(matches!(element.content, Content::Held(_)), held, "{vr:?} {length}");
            assert_eq!(header.value(element).len(), if held { length } else { 0 });
        }
        let file = little(|writer| {
            writer.put(Tag(0x0009, 0x1001), VR::UR, &vec![b'1'; 1 << 20]).put(
                Tag(0x0009, 0x1002),
                VR::UR,
                &vec![b'1'; (1 << 20) + 2],
            );
        });
        let error = read(&file, HeaderLimits::default()).unwrap_err();
        assert!(matches!(error, HeaderError::Parse(ParseError::Limit { what: Bound::Value, .. })));
    }

    #[test]
    fn big_endian_values_are_held_little_endian() {
        let values: [(VR, &[u8]); 4] =
            [(VR::US, &[1, 2, 3, 4]), (VR::FD, &[1, 2, 3, 4, 5, 6, 7, 8]), (VR::AT, &[1, 2, 3, 4]), (VR::OB, &[1, 2])];
        for (vr, value) in values {
            let file = samples::file(EXPLICIT_BIG, BIG, |writer| {
                writer.identity().put(Tag(0x0029, 0x1001), vr, value);
            });
            let header = read(&file, HeaderLimits::default()).unwrap();
            assert_eq!(header.value(header.dataset.get(Tag(0x0029, 0x1001)).unwrap()), value);
        }
    }

    #[test]
    fn elements_come_in_order_and_the_last_of_a_tag_wins() {
        let id = Tag(0x0010, 0x0020);
        let file = little(|writer| {
            writer.put(Tag(0x0020, 0x0010), VR::SH, b"B ").put(id, VR::LO, b"A ").identity().put(id, VR::LO, b"Z ");
        });
        let header = read(&file, HeaderLimits::default()).unwrap();
        assert!(header.dataset.elements.is_sorted_by_key(|element| element.tag));
        assert_eq!(header.value(header.dataset.get(id).unwrap()), b"Z ");
        assert_eq!(header.dataset.elements.len(), 6);
    }

    #[test]
    fn the_identity_is_known_before_the_rest_and_must_not_change() {
        let mut reader = HeaderReader::new(HeaderLimits::default());
        let front = samples::part10(EXPLICIT_LITTLE);
        let dataset = Writer::new(EXPLICIT).identity().done();
        reader.push(&front).unwrap();
        reader.push(&dataset[..dataset.len() - 1]).unwrap();
        assert_eq!(reader.identity(), None);
        reader.push(&dataset[dataset.len() - 1..]).unwrap();
        assert_eq!(reader.identity().unwrap().key.series.as_str(), "1.2.3");
        reader.push(&Writer::new(EXPLICIT).put(Tag(0x0020, 0x000E), VR::UI, b"1.9").done()).unwrap();
        assert_eq!(reader.finish().unwrap_err(), HeaderError::Identity(IdentityError::Ambiguous));
    }

    #[test]
    fn a_uid_that_comes_again_is_the_same_or_refused_however_the_file_is_cut() {
        for (again, refused) in
            [(&b"1.2.3\0"[..], false), (b"1.2.3 ", false), (b"1.2.4\0", true), (b"7 ", true), (b"", true)]
        {
            let file = little(|writer| {
                writer.identity().put(Tag(0x0020, 0x000E), VR::UI, again).put(Tag(0x0020, 0x000E), VR::UI, b"1.2.3\0");
            });
            for cut in [1, 100, 100_000] {
                let mut reader = HeaderReader::new(HeaderLimits::default());
                file.chunks(cut).for_each(|chunk| reader.push(chunk).unwrap());
                assert_eq!(reader.finish().is_err(), refused, "{again:?} in pieces of {cut}");
            }
        }
    }

    #[test]
    fn pixel_data_is_never_held_and_icons_like_other_values() {
        let file = little(|writer| {
            writer
                .identity()
                .head(Tag(0x0088, 0x0200), VR::SQ, UNDEFINED)
                .item(UNDEFINED)
                .put(PIXEL_DATA, VR::OW, &[1, 2])
                .end_item()
                .item(UNDEFINED)
                .head(PIXEL_DATA, VR::OB, UNDEFINED)
                .fragment(b"")
                .fragment(&[1, 2])
                .end_sequence()
                .end_item()
                .end_sequence()
                .put(PIXEL_DATA, VR::OW, &[1, 2])
                .put(Tag(0xFFFA, 0xFFFA), VR::SQ, b"");
        });
        let header = read(&file, HeaderLimits::default()).unwrap();
        let icons = header.dataset.items(Tag(0x0088, 0x0200));
        assert_eq!(header.value(icons[0].get(PIXEL_DATA).unwrap()), [1, 2]);
        let encapsulated = icons[1].get(PIXEL_DATA).unwrap();
        assert!(matches!(encapsulated.content, Content::Fragments));
        let start = usize::try_from(encapsulated.extent.position).unwrap();
        let whole = &file[start..start + usize::try_from(encapsulated.extent.length).unwrap()];
        assert_eq!(whole, Writer::new(EXPLICIT).fragment(b"").fragment(&[1, 2]).end_sequence().done());
        assert!(matches!(header.dataset.get(PIXEL_DATA).unwrap().content, Content::Left));
        assert_eq!(header.dataset.elements.last().unwrap().tag, Tag(0xFFFA, 0xFFFA));
    }

    #[test]
    fn memory_is_bounded_however_small_the_elements_are() {
        let tiny = Writer::new(EXPLICIT).put(Tag(0x0010, 0x0020), VR::LO, b"").done().repeat(1000);
        let mut reader = HeaderReader::new(HeaderLimits { bytes: 1 << 20, ..HeaderLimits::default() });
        reader.push(&samples::part10(EXPLICIT_LITTLE)).unwrap();
        let refused = (0..1000).find_map(|_| reader.push(&tiny).err());
        assert!(matches!(refused, Some(ParseError::Limit { what: Bound::Attributes, .. })));
        // once refused, refused for good
        assert_eq!(reader.push(&tiny).err(), refused);
    }
}
