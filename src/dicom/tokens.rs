//! The push parser of the DICOM byte stream: fed with chunks of any size, tells a [`Sink`] what it sees.
//!
//! It never recurses, holds no value and allocates nothing that a declared length asks for: sequences live on an explicit
//! stack of bounded depth, elements are counted, and values are handed on in the pieces in which they arrive.

use dicom_core::{Tag, VR};

use crate::dicom::events::{Bound, ElementHeader, Flaw, Limits, ParseError, Sink};
use crate::dicom::nesting::{Frame, Kind, OPEN};
use crate::dicom::transfer_syntax::Encoding;
use crate::dicom::vr::{self, Context, Named, PIXEL_DATA};

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
const LUT_DESCRIPTOR: Tag = Tag(0x0028, 0x3002);
const UNDEFINED: u32 = u32::MAX;

/// What the stream may turn out to be at the first element of its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The file says so; it is believed unless the first element shows otherwise.
    Said(Encoding),
    /// Nothing says: found out from the first element.
    Unknown,
}

/// The push parser of one data set.
///
/// Reads what pydicom reads: an item or a root whose first element has no VR letters is implicit, sequences of VR UN with
/// undefined length are implicit or explicit as found (PS3.5 6.2.2), items and sequences with defined length may be
/// delimited too. Refused are streams that end inside anything, elements that reach beyond their sequence, and fragments
/// without their delimiter, since nobody can tell whether some are missing.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    /// Of the next byte.
    position: u64,
    elements: u64,
    encoding: Encoding,
    /// The root and what is open in it, innermost last.
    stack: Vec<Frame>,
    state: State,
    /// The beginning of a header that is not complete yet.
    pending: [u8; 12],
    pending_length: usize,
    capture: Option<Capture>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At a header of an element, item, fragment or delimiter.
    Header,
    /// In the value of an element.
    Value(u32),
    /// In the value of a fragment.
    Fragment(u32),
    /// In what follows the delimiter of a sequence of defined length, up to its end.
    Rest(u64),
    /// In zeros after the data set.
    Padding,
}

/// A value of two bytes that the VR of later elements depends on.
#[derive(Clone, Copy, Debug)]
struct Capture {
    tag: Tag,
    big_endian: bool,
    bytes: [u8; 2],
    length: usize,
}

/// A decoded element header.
#[derive(Clone, Copy, Debug)]
struct Decoded {
    tag: Tag,
    vr: VR,
    length: u32,
    header: usize,
    explicit: bool,
}

impl Parser {
    /// A parser of the data set that begins at `position`.
    #[must_use]
    pub fn new(claim: Claim, position: u64, limits: Limits) -> Self {
        let encoding = match claim {
            Claim::Said(encoding) => encoding,
            Claim::Unknown => Encoding::IMPLICIT_LITTLE,
        };
        let root = Frame {
            kind: Kind::Root,
            end: OPEN,
            bound: OPEN,
            explicit: encoding.explicit,
            big_endian: encoding.big_endian,
            first: true,
            context: Context::default(),
        };
        Self {
            limits,
            position,
            elements: 0,
            encoding,
            stack: vec![root],
            state: State::Header,
            pending: [0; 12],
            pending_length: 0,
            capture: None,
        }
    }

    /// How the data set is really encoded; known once its first element is.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The next bytes of the stream, any number of them.
    pub fn push<S: Sink>(&mut self, mut chunk: &[u8], sink: &mut S) -> Result<(), ParseError> {
        while !chunk.is_empty() {
            match self.state {
                State::Header => self.header(&mut chunk, sink)?,
                State::Value(left) => {
                    let left = self.value(left, &mut chunk, sink)?;
                    self.state = State::Value(left);
                    if left == 0 {
                        self.end_value(sink)?;
                    }
                }
                State::Fragment(left) => {
                    let left = self.value(left, &mut chunk, sink)?;
                    self.state = State::Fragment(left);
                    if left == 0 {
                        self.end_fragment(sink)?;
                    }
                }
                State::Rest(left) => self.skip(left, &mut chunk, sink)?,
                State::Padding => {
                    if let Some(index) = chunk.iter().position(|byte| *byte != 0) {
                        return Err(ParseError::malformed(self.position + index as u64, Flaw::Garbage));
                    }
                    self.position += chunk.len() as u64;
                    chunk = &[];
                }
            }
        }
        Ok(())
    }

    /// The stream is over.
    pub fn finish(&self) -> Result<(), ParseError> {
        let rest = &self.pending[..self.pending_length];
        let complete = match self.state {
            State::Header => self.stack.len() == 1 && rest.iter().all(|byte| *byte == 0),
            State::Padding => true,
            State::Value(_) | State::Fragment(_) | State::Rest(_) => false,
        };
        if complete { Ok(()) } else { Err(ParseError::Truncated(self.position + rest.len() as u64)) }
    }

    fn top(&self) -> Frame {
        // the root is never popped
        self.stack[self.stack.len() - 1]
    }

    fn header<S: Sink>(&mut self, chunk: &mut &[u8], sink: &mut S) -> Result<(), ParseError> {
        if !self.gather(8, chunk) {
            return Ok(());
        }
        match self.top().kind {
            Kind::Root | Kind::Item => {
                self.detect();
                let Some(decoded) = self.decode(chunk) else { return Ok(()) };
                self.consume(decoded.header)?;
                self.element(decoded, sink)?;
            }
            Kind::Sequence => self.item(sink)?,
            Kind::Fragments => self.fragment(sink)?,
        }
        self.close(sink)
    }

    /// Fills the pending header up to `need` bytes.
    fn gather(&mut self, need: usize, chunk: &mut &[u8]) -> bool {
        let missing = need.saturating_sub(self.pending_length).min(chunk.len());
        let (now, later) = chunk.split_at(missing);
        self.pending[self.pending_length..self.pending_length + missing].copy_from_slice(now);
        self.pending_length += missing;
        *chunk = later;
        self.pending_length >= need
    }

    /// Looks at the first element of the root or an item: are VRs named, and, in the root, which byte comes first?
    fn detect(&mut self) {
        let root = self.stack.len() == 1;
        let top = self.stack.len() - 1;
        let bytes = self.pending;
        let frame = &mut self.stack[top];
        // command elements (group 0000), which come before the data set here and there, are implicit whatever follows
        if !frame.first || (root && bytes[..2] == [0, 0]) {
            return;
        }
        let named = vr::looks_named([bytes[4], bytes[5]]);
        if root {
            frame.explicit = named;
            // 00 08 or 08 00: no data set has elements in a group xx00 over 03FF
            let (low, high) = (bytes[0], bytes[1]);
            match (frame.big_endian, low, high) {
                (false, 0, 4..) if named => frame.big_endian = true,
                (true, 4.., 0) => frame.big_endian = false,
                _ => {}
            }
            self.encoding.explicit = frame.explicit;
            self.encoding.big_endian = frame.big_endian;
        } else if frame.explicit {
            // sequences do not switch from implicit to explicit
            frame.explicit = named;
        }
    }

    /// The header of an element; `None` when bytes are missing.
    fn decode(&mut self, chunk: &mut &[u8]) -> Option<Decoded> {
        let frame = self.top();
        let tag = self.pending_tag(frame.big_endian);
        let vr_bytes = [self.pending[4], self.pending[5]];
        let named = if frame.explicit && tag.0 != 0xFFFE { vr::named(vr_bytes) } else { Named::Absent };
        let short = || {
            let bytes = [self.pending[6], self.pending[7]];
            u32::from(if frame.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
        };
        Some(match named {
            Named::Known(vr) if vr::has_long_length(vr) => {
                if !self.gather(12, chunk) {
                    return None;
                }
                Decoded { tag, vr, length: self.pending_u32(8, frame.big_endian), header: 12, explicit: true }
            }
            Named::Known(vr) => Decoded { tag, vr, length: short(), header: 8, explicit: true },
            Named::Unknown => Decoded { tag, vr: VR::UN, length: short(), header: 8, explicit: true },
            Named::Absent => {
                let vr = vr::of_tag(tag, frame.context);
                Decoded { tag, vr, length: self.pending_u32(4, frame.big_endian), header: 8, explicit: false }
            }
        })
    }

    fn element<S: Sink>(&mut self, decoded: Decoded, sink: &mut S) -> Result<(), ParseError> {
        let frame = self.top();
        match decoded.tag {
            ITEM_DELIMITER if frame.kind == Kind::Item => {
                self.stack.pop();
                return sink.item_end();
            }
            ITEM | ITEM_DELIMITER | SEQUENCE_DELIMITER => return self.stray(decoded),
            Tag(0, 0) if frame.kind == Kind::Root && decoded.length == 0 && self.elements > 0 => {
                self.state = State::Padding;
                return Ok(());
            }
            _ => {}
        }
        self.count()?;
        // lengths of 16 bits never reach it
        let undefined = decoded.length == UNDEFINED;
        let mut header = ElementHeader {
            tag: decoded.tag,
            vr: decoded.vr,
            length: (!undefined).then_some(decoded.length),
            big_endian: frame.big_endian,
            position: self.position,
        };
        if undefined && decoded.tag == PIXEL_DATA {
            if !decoded.explicit || decoded.vr == VR::UN {
                header.vr = VR::OB;
            }
            self.open(Kind::Fragments, &header)?;
            sink.fragments(&header)
        } else if decoded.vr == VR::SQ || (undefined && decoded.vr == VR::UN) {
            header.vr = VR::SQ;
            self.open(Kind::Sequence, &header)?;
            sink.sequence(&header)
        } else if undefined {
            self.open(Kind::Fragments, &header)?;
            sink.fragments(&header)
        } else {
            self.begin_value(&header, sink)
        }
    }

    /// Delimiters where nothing is to be delimited: ignored in the root when they are empty, as their length of zero asks.
    fn stray(&self, decoded: Decoded) -> Result<(), ParseError> {
        if self.stack.len() == 1 && decoded.tag != ITEM && decoded.length == 0 {
            Ok(())
        } else {
            Err(ParseError::malformed(self.position, Flaw::StrayItem))
        }
    }

    fn begin_value<S: Sink>(&mut self, header: &ElementHeader, sink: &mut S) -> Result<(), ParseError> {
        let length = header.length.unwrap_or(0);
        if self.position + u64::from(length) > self.top().bound {
            return Err(ParseError::malformed(self.position, Flaw::ElementOverrun));
        }
        sink.element(header)?;
        if matches!(header.tag, PIXEL_REPRESENTATION | LUT_DESCRIPTOR) {
            self.capture = Some(Capture { tag: header.tag, big_endian: header.big_endian, bytes: [0; 2], length: 0 });
        }
        self.state = State::Value(length);
        if length == 0 { self.end_value(sink) } else { Ok(()) }
    }

    fn value<S: Sink>(&mut self, left: u32, chunk: &mut &[u8], sink: &mut S) -> Result<u32, ParseError> {
        let take = chunk.len().min(left as usize);
        let (piece, later) = chunk.split_at(take);
        if let Some(capture) = &mut self.capture {
            for byte in piece.iter().take(2_usize.saturating_sub(capture.length)) {
                capture.bytes[capture.length] = *byte;
                capture.length += 1;
            }
        }
        sink.value(piece)?;
        *chunk = later;
        self.position += take as u64;
        // `take` is at most `left`
        Ok(left - u32::try_from(take).unwrap_or(left))
    }

    fn end_value<S: Sink>(&mut self, sink: &mut S) -> Result<(), ParseError> {
        if let Some(capture) = self.capture.take().filter(|capture| capture.length == 2) {
            let number =
                if capture.big_endian { u16::from_be_bytes(capture.bytes) } else { u16::from_le_bytes(capture.bytes) };
            let top = self.stack.len() - 1;
            let context = &mut self.stack[top].context;
            match capture.tag {
                PIXEL_REPRESENTATION => context.signed = number != 0,
                _ => context.single_entry = number == 1,
            }
        }
        self.state = State::Header;
        sink.element_end()?;
        self.close(sink)
    }

    /// The header of an item, or the end of the sequence.
    fn item<S: Sink>(&mut self, sink: &mut S) -> Result<(), ParseError> {
        let top = self.stack.len() - 1;
        if self.stack[top].first {
            // a sequence of VR UN is little endian by PS3.5 6.2.2 wherever it stands, but not all writers know
            self.stack[top].first = false;
            match self.pending[..2] {
                [0xFE, 0xFF] => self.stack[top].big_endian = false,
                [0xFF, 0xFE] => self.stack[top].big_endian = true,
                _ => {}
            }
        }
        let frame = self.top();
        let (tag, length) = (self.pending_tag(frame.big_endian), self.pending_u32(4, frame.big_endian));
        self.consume(8)?;
        match tag {
            ITEM => {
                self.count()?;
                let end = if length == UNDEFINED { OPEN } else { self.position + u64::from(length) };
                let context = frame.context.inside();
                self.stack.push(Frame { kind: Kind::Item, end, first: true, context, ..frame });
                sink.item()
            }
            SEQUENCE_DELIMITER if frame.end == OPEN => {
                self.stack.pop();
                sink.sequence_end()
            }
            SEQUENCE_DELIMITER if frame.end > self.position => {
                self.state = State::Rest(frame.end - self.position);
                Ok(())
            }
            SEQUENCE_DELIMITER => Ok(()),
            // after an item of defined length, which needs none
            ITEM_DELIMITER if length == 0 => Ok(()),
            _ => Err(ParseError::malformed(self.position - 8, Flaw::NoItem)),
        }
    }

    /// The header of a fragment, or the end of encapsulated pixel data.
    fn fragment<S: Sink>(&mut self, sink: &mut S) -> Result<(), ParseError> {
        let frame = self.top();
        let (tag, length) = (self.pending_tag(frame.big_endian), self.pending_u32(4, frame.big_endian));
        self.consume(8)?;
        match tag {
            ITEM if length != UNDEFINED && self.position + u64::from(length) <= frame.bound => {
                self.count()?;
                sink.fragment(self.position, length)?;
                self.state = State::Fragment(length);
                if length == 0 { self.end_fragment(sink) } else { Ok(()) }
            }
            SEQUENCE_DELIMITER => {
                self.stack.pop();
                sink.fragments_end(self.position)
            }
            ITEM => Err(ParseError::malformed(self.position - 8, Flaw::FragmentLength)),
            _ => Err(ParseError::malformed(self.position - 8, Flaw::NoFragment)),
        }
    }

    fn end_fragment<S: Sink>(&mut self, sink: &mut S) -> Result<(), ParseError> {
        self.state = State::Header;
        sink.fragment_end()
    }

    fn skip<S: Sink>(&mut self, left: u64, chunk: &mut &[u8], sink: &mut S) -> Result<(), ParseError> {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        *chunk = &chunk[take..];
        self.position += take as u64;
        self.state = State::Rest(left - take as u64);
        if left == take as u64 {
            self.state = State::Header;
            self.close(sink)?;
        }
        Ok(())
    }

    /// Opens a sequence or encapsulated pixel data.
    fn open(&mut self, kind: Kind, header: &ElementHeader) -> Result<(), ParseError> {
        let frame = self.top();
        // each level is a sequence and an item
        if self.stack.len() / 2 >= self.limits.depth {
            return Err(ParseError::limit(self.position, Bound::Depth));
        }
        let end = header.length.map_or(OPEN, |length| self.position + u64::from(length));
        if end != OPEN && end > frame.bound {
            return Err(ParseError::malformed(self.position, Flaw::SequenceOverrun));
        }
        self.stack.push(Frame { kind, end, bound: frame.bound.min(end), first: true, ..frame });
        Ok(())
    }

    /// Ends what has a declared length and is complete.
    fn close<S: Sink>(&mut self, sink: &mut S) -> Result<(), ParseError> {
        if matches!(self.state, State::Header) {
            loop {
                let frame = self.top();
                match frame.kind {
                    Kind::Item if self.position >= frame.end.min(frame.bound) => {
                        self.stack.pop();
                        sink.item_end()?;
                    }
                    Kind::Sequence if self.position == frame.end => {
                        self.stack.pop();
                        sink.sequence_end()?;
                    }
                    Kind::Sequence | Kind::Fragments if self.position >= frame.bound => {
                        return Err(ParseError::malformed(self.position, Flaw::NoDelimiter));
                    }
                    Kind::Root | Kind::Item | Kind::Sequence | Kind::Fragments => break,
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), ParseError> {
        self.elements += 1;
        if self.elements > self.limits.elements {
            return Err(ParseError::limit(self.position, Bound::Elements));
        }
        let top = self.stack.len() - 1;
        let frame = &mut self.stack[top];
        if matches!(frame.kind, Kind::Root | Kind::Item) && self.pending[..2] != [0, 0] {
            frame.first = false;
        }
        Ok(())
    }

    /// Moves over a header; it must lie inside its sequence.
    fn consume(&mut self, length: usize) -> Result<(), ParseError> {
        self.pending_length = 0;
        self.position += length as u64;
        if self.position > self.top().bound {
            return Err(ParseError::malformed(self.position, Flaw::HeaderOverrun));
        }
        Ok(())
    }

    fn pending_tag(&self, big_endian: bool) -> Tag {
        let [a, b, c, d, ..] = self.pending;
        if big_endian {
            Tag(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        } else {
            Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
        }
    }

    fn pending_u32(&self, at: usize, big_endian: bool) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.pending[at..at + 4]);
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{collection, proptest};

    use super::{Bound, Claim, ElementHeader, Encoding, Flaw, Limits, ParseError, Parser, Sink, Tag, VR};
    use crate::dicom::samples::{BIG, EXPLICIT, IMPLICIT, UNDEFINED, Writer};

    /// Events as text, value pieces joined.
    #[derive(Default)]
    struct Log(Vec<String>, Vec<u8>);

    impl Log {
        fn flush(&mut self) {
            if !self.1.is_empty() {
                let value = std::mem::take(&mut self.1);
                self.0.push(format!("{value:?}"));
            }
        }
        fn add(&mut self, text: String) {
            self.flush();
            self.0.push(text);
        }
    }

    fn name(header: &ElementHeader) -> String {
        let length = header.length.map_or("?".to_owned(), |length| length.to_string());
        format!("{:04X}{:04X} {:?} {length} @{}", header.tag.0, header.tag.1, header.vr, header.position)
    }

    impl Sink for Log {
        fn element(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
            self.add(name(header));
            Ok(())
        }
        fn value(&mut self, piece: &[u8]) -> Result<(), ParseError> {
            assert!(!piece.is_empty());
            self.1.extend_from_slice(piece);
            Ok(())
        }
        fn element_end(&mut self) -> Result<(), ParseError> {
            self.flush();
            Ok(())
        }
        fn sequence(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
            self.add(name(header));
            Ok(())
        }
        fn item(&mut self) -> Result<(), ParseError> {
            self.add("item".into());
            Ok(())
        }
        fn item_end(&mut self) -> Result<(), ParseError> {
            self.add("/item".into());
            Ok(())
        }
        fn sequence_end(&mut self) -> Result<(), ParseError> {
            self.add("/sequence".into());
            Ok(())
        }
        fn fragments(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
            self.add(format!("fragments {}", name(header)));
            Ok(())
        }
        fn fragment(&mut self, position: u64, length: u32) -> Result<(), ParseError> {
            self.add(format!("fragment {length} @{position}"));
            Ok(())
        }
        fn fragment_end(&mut self) -> Result<(), ParseError> {
            self.flush();
            Ok(())
        }
        fn fragments_end(&mut self, position: u64) -> Result<(), ParseError> {
            self.add(format!("/fragments @{position}"));
            Ok(())
        }
    }

    fn parse(claim: Claim, chunks: &[&[u8]]) -> (Vec<String>, Result<(), ParseError>) {
        let mut parser = Parser::new(claim, 0, Limits::default());
        let mut log = Log::default();
        for chunk in chunks {
            if let Err(error) = parser.push(chunk, &mut log) {
                log.flush();
                return (log.0, Err(error));
            }
        }
        log.flush();
        let end = parser.finish();
        (log.0, end)
    }

    const EXPLICIT_CLAIM: Claim = Claim::Said(Encoding::EXPLICIT_LITTLE);
    const IMPLICIT_CLAIM: Claim = Claim::Said(Encoding::IMPLICIT_LITTLE);

    const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
    const SEQUENCE: Tag = Tag(0x0008, 0x1115);
    const PRIVATE: Tag = Tag(0x0009, 0x1001);

    #[test]
    fn streams_become_the_events_that_they_hold() {
        let explicit = || Writer::new(EXPLICIT);
        let implicit = || Writer::new(IMPLICIT);
        let id = "00100020 LO 2 @";
        let cases: Vec<(&str, Claim, Vec<u8>, Vec<String>)> = vec![
            (
                "short",
                EXPLICIT_CLAIM,
                explicit().put(PATIENT_ID, VR::LO, b"ab").done(),
                vec![format!("{id}8"), "[97, 98]".into()],
            ),
            ("empty", EXPLICIT_CLAIM, explicit().put(PATIENT_ID, VR::LO, b"").done(), vec!["00100020 LO 0 @8".into()]),
            (
                "big endian",
                EXPLICIT_CLAIM,
                Writer::new(BIG).put(PATIENT_ID, VR::LO, b"ab").done(),
                vec![format!("{id}8"), "[97, 98]".into()],
            ),
            (
                "implicit under explicit",
                EXPLICIT_CLAIM,
                implicit().put(PATIENT_ID, VR::LO, b"ab").done(),
                vec![format!("{id}8"), "[97, 98]".into()],
            ),
            (
                "explicit under implicit",
                IMPLICIT_CLAIM,
                explicit().put(PATIENT_ID, VR::LO, b"ab").done(),
                vec![format!("{id}8"), "[97, 98]".into()],
            ),
            (
                "sequence of undefined length",
                EXPLICIT_CLAIM,
                explicit()
                    .head(SEQUENCE, VR::SQ, UNDEFINED)
                    .item(UNDEFINED)
                    .put(PATIENT_ID, VR::LO, b"")
                    .end_item()
                    .end_sequence()
                    .done(),
                vec![
                    "00081115 SQ ? @12".into(),
                    "item".into(),
                    "00100020 LO 0 @28".into(),
                    "/item".into(),
                    "/sequence".into(),
                ],
            ),
            (
                "sequence of defined length, delimited all the same, with an empty item",
                EXPLICIT_CLAIM,
                explicit().head(SEQUENCE, VR::SQ, 32).item(8).end_item().item(0).end_sequence().done(),
                vec![
                    "00081115 SQ 32 @12".into(),
                    "item".into(),
                    "/item".into(),
                    "item".into(),
                    "/item".into(),
                    "/sequence".into(),
                ],
            ),
            (
                "empty sequence",
                EXPLICIT_CLAIM,
                explicit().head(SEQUENCE, VR::SQ, 0).put(PATIENT_ID, VR::LO, b"").done(),
                vec!["00081115 SQ 0 @12".into(), "/sequence".into(), "00100020 LO 0 @20".into()],
            ),
            (
                "UN of undefined length is an implicit sequence",
                EXPLICIT_CLAIM,
                explicit()
                    .head(PRIVATE, VR::UN, UNDEFINED)
                    .item(UNDEFINED)
                    .raw(&implicit().put(PATIENT_ID, VR::LO, b"ab").done())
                    .end_item()
                    .end_sequence()
                    .put(PATIENT_ID, VR::LO, b"")
                    .done(),
                vec![
                    "00091001 SQ ? @12".into(),
                    "item".into(),
                    format!("{id}28"),
                    "[97, 98]".into(),
                    "/item".into(),
                    "/sequence".into(),
                    "00100020 LO 0 @54".into(),
                ],
            ),
            (
                "UN of defined length stays bytes",
                EXPLICIT_CLAIM,
                explicit().put(SEQUENCE, VR::UN, &[1, 2]).done(),
                vec!["00081115 UN 2 @12".into(), "[1, 2]".into()],
            ),
            (
                "implicit sequence, private and ambiguous elements",
                IMPLICIT_CLAIM,
                implicit()
                    .put(SEQUENCE, VR::SQ, &implicit().item(0).done())
                    .put(PRIVATE, VR::UN, b"")
                    .put(Tag(0x0028, 0x0103), VR::US, &[1, 0])
                    .put(Tag(0x0028, 0x0106), VR::SS, b"")
                    .done(),
                vec![
                    "00081115 SQ 8 @8".into(),
                    "item".into(),
                    "/item".into(),
                    "/sequence".into(),
                    "00091001 UN 0 @24".into(),
                    "00280103 US 2 @32".into(),
                    "[1, 0]".into(),
                    "00280106 SS 0 @42".into(),
                ],
            ),
            (
                "fragments and what follows them",
                EXPLICIT_CLAIM,
                explicit()
                    .head(Tag(0x7FE0, 0x0010), VR::OB, UNDEFINED)
                    .fragment(b"")
                    .fragment(&[1, 2])
                    .end_sequence()
                    .put(Tag(0xFFFA, 0xFFFA), VR::SQ, b"")
                    .done(),
                vec![
                    "fragments 7FE00010 OB ? @12".into(),
                    "fragment 0 @20".into(),
                    "fragment 2 @28".into(),
                    "[1, 2]".into(),
                    "/fragments @38".into(),
                    "FFFAFFFA SQ 0 @50".into(),
                    "/sequence".into(),
                ],
            ),
            (
                "zeros at the end",
                EXPLICIT_CLAIM,
                explicit().put(PATIENT_ID, VR::LO, b"").raw(&[0; 21]).done(),
                vec!["00100020 LO 0 @8".into()],
            ),
            (
                "an unknown VR has a short length",
                EXPLICIT_CLAIM,
                explicit().put(PATIENT_ID, VR::LO, b"").raw(b"\x10\0\x21\0ZZ\x02\0ab").done(),
                vec!["00100020 LO 0 @8".into(), "00100021 UN 2 @16".into(), "[97, 98]".into()],
            ),
        ];
        for (what, claim, bytes, expected) in cases {
            let (events, end) = parse(claim, &[&bytes]);
            assert_eq!(end, Ok(()), "{what}");
            assert_eq!(events, expected, "{what}");
        }
    }

    #[test]
    fn streams_that_cannot_be_are_refused() {
        let explicit = || Writer::new(EXPLICIT);
        let sequence = || {
            let mut writer = explicit();
            writer.head(SEQUENCE, VR::SQ, UNDEFINED);
            writer
        };
        let pixels = || {
            let mut writer = explicit();
            writer.head(Tag(0x7FE0, 0x0010), VR::OB, UNDEFINED).fragment(b"");
            writer
        };
        let malformed = |position, what| ParseError::Malformed { position, what };
        for (what, bytes, expected) in [
            ("value", explicit().head(PATIENT_ID, VR::LO, 4).raw(b"abc").done(), ParseError::Truncated(11)),
            ("header", explicit().put(PATIENT_ID, VR::LO, b"ab").raw(&[8, 0, 0]).done(), ParseError::Truncated(13)),
            ("length", explicit().head(PATIENT_ID, VR::UN, 4).done(), ParseError::Truncated(12)),
            ("huge", explicit().head(PATIENT_ID, VR::UN, 0xFFFF_FFFE).raw(b"a").done(), ParseError::Truncated(13)),
            ("open sequence", sequence().done(), ParseError::Truncated(12)),
            ("open item", sequence().item(UNDEFINED).done(), ParseError::Truncated(20)),
            ("short item", sequence().item(9).put(PATIENT_ID, VR::LO, b"").done(), ParseError::Truncated(28)),
            ("half an item header", sequence().raw(&[0xFE, 0xFF, 0, 0xE0]).done(), ParseError::Truncated(16)),
            ("no delimiter of fragments", pixels().fragment(&[1, 2]).done(), ParseError::Truncated(30)),
            ("an element in fragments", pixels().put(PATIENT_ID, VR::LO, b"").done(), malformed(20, Flaw::NoFragment)),
            ("an element in a sequence", sequence().put(PATIENT_ID, VR::LO, b"").done(), malformed(12, Flaw::NoItem)),
            (
                "an element longer than its sequence",
                explicit().head(SEQUENCE, VR::SQ, 16).item(8).head(PATIENT_ID, VR::LO, 2).raw(b"ab").done(),
                malformed(28, Flaw::ElementOverrun),
            ),
            (
                "garbage",
                explicit().put(PATIENT_ID, VR::LO, b"").raw(&[0; 9]).raw(b"x").done(),
                malformed(17, Flaw::Garbage),
            ),
        ] {
            assert_eq!(parse(EXPLICIT_CLAIM, &[&bytes]).1, Err(expected), "{what}");
        }
    }

    #[test]
    fn a_million_nested_sequences_are_refused_at_the_limit() {
        let mut level = Writer::new(EXPLICIT);
        level.head(SEQUENCE, VR::SQ, UNDEFINED).item(UNDEFINED);
        let bytes = level.bytes.repeat(1_000_000);
        let (_, end) = parse(EXPLICIT_CLAIM, &[&bytes]);
        assert_eq!(end, Err(ParseError::Limit { position: 64 * 20 + 12, what: Bound::Depth }));
        let end = parse(EXPLICIT_CLAIM, &[&level.bytes.repeat(64)]).1;
        assert_eq!(end, Err(ParseError::Truncated(64 * 20)));
    }

    #[test]
    fn elements_are_counted() {
        let limits = Limits { elements: 10, ..Limits::default() };
        let mut parser = Parser::new(EXPLICIT_CLAIM, 0, limits);
        let bytes = Writer::new(EXPLICIT).put(PATIENT_ID, VR::LO, b"").done().repeat(11);
        let end = parser.push(&bytes, &mut Log::default());
        assert_eq!(end, Err(ParseError::Limit { position: 88, what: Bound::Elements }));
    }

    /// Data sets, well formed or not quite.
    fn dataset() -> impl Strategy<Value = Vec<u8>> {
        let element = prop_oneof![
            (any::<u16>(), collection::vec(any::<u8>(), 0..20)).prop_map(|(element, value)| {
                Writer::new(EXPLICIT).put(Tag(0x0010, element), VR::LO, &value).done()
            }),
            collection::vec(any::<u8>(), 0..20)
                .prop_map(|value| Writer::new(EXPLICIT).put(Tag(0x0009, 0x1002), VR::OB, &value).done()),
            collection::vec(any::<u8>(), 0..12),
            Just(Writer::new(EXPLICIT).head(SEQUENCE, VR::SQ, UNDEFINED).done()),
            Just(Writer::new(EXPLICIT).head(SEQUENCE, VR::SQ, 40).done()),
            Just(Writer::new(EXPLICIT).head(PRIVATE, VR::UN, UNDEFINED).done()),
            Just(Writer::new(EXPLICIT).head(Tag(0x7FE0, 0x0010), VR::OB, UNDEFINED).done()),
            Just(Writer::new(EXPLICIT).item(UNDEFINED).done()),
            Just(Writer::new(EXPLICIT).item(16).done()),
            Just(Writer::new(EXPLICIT).end_item().done()),
            Just(Writer::new(EXPLICIT).end_sequence().done()),
        ];
        collection::vec(element, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_chunking_gives_the_same_events(bytes in dataset(), sizes in collection::vec(1_usize..9, 1..60)) {
            let whole = parse(EXPLICIT_CLAIM, &[&bytes]);
            let mut chunks = Vec::new();
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, later) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk);
                rest = later;
            }
            assert_eq!(parse(EXPLICIT_CLAIM, &chunks), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in collection::vec(any::<u8>(), 0..300)) {
            for claim in [EXPLICIT_CLAIM, IMPLICIT_CLAIM, Claim::Unknown, Claim::Said(Encoding::EXPLICIT_BIG)] {
                let _ = parse(claim, &[&bytes]);
            }
        }
    }
}
