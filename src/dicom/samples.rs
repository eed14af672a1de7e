//! Streams for tests, put together element by element.

use dicom_core::{Tag, VR};

use crate::dicom::vr;

/// How elements are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) explicit: bool,
    pub(crate) big_endian: bool,
}

pub(crate) const EXPLICIT: Layout = Layout { explicit: true, big_endian: false };
pub(crate) const IMPLICIT: Layout = Layout { explicit: false, big_endian: false };
pub(crate) const BIG: Layout = Layout { explicit: true, big_endian: true };
pub(crate) const UNDEFINED: u32 = u32::MAX;

/// A stream being written.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    layout: Layout,
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, bytes: Vec::new() }
    }

    /// What was written.
    pub(crate) fn done(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes.extend(if self.layout.big_endian { number.to_be_bytes() } else { number.to_le_bytes() });
        self
    }

    pub(crate) fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes.extend(if self.layout.big_endian { number.to_be_bytes() } else { number.to_le_bytes() });
        self
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The header of an element with a length that need not be true.
    pub(crate) fn head(&mut self, tag: Tag, vr: VR, length: u32) -> &mut Self {
        self.u16(tag.0).u16(tag.1);
        if !self.layout.explicit {
            return self.u32(length);
        }
        self.raw(&vr.to_bytes());
        if vr::has_long_length(vr) { self.u16(0).u32(length) } else { self.u16(u16::try_from(length).unwrap()) }
    }

    /// An element; the value is given in little endian.
    pub(crate) fn put(&mut self, tag: Tag, vr: VR, value: &[u8]) -> &mut Self {
        let mut value = value.to_vec();
        if self.layout.big_endian {
            vr::swap(&mut value, vr::word(vr));
        }
        self.head(tag, vr, u32::try_from(value.len()).unwrap()).raw(&value)
    }

    pub(crate) fn item(&mut self, length: u32) -> &mut Self {
        self.u16(0xFFFE).u16(0xE000).u32(length)
    }

    pub(crate) fn end_item(&mut self) -> &mut Self {
        self.u16(0xFFFE).u16(0xE00D).u32(0)
    }

    pub(crate) fn end_sequence(&mut self) -> &mut Self {
        self.u16(0xFFFE).u16(0xE0DD).u32(0)
    }

    /// A fragment of encapsulated pixel data.
    pub(crate) fn fragment(&mut self, value: &[u8]) -> &mut Self {
        self.item(u32::try_from(value.len()).unwrap()).raw(value)
    }

    /// The four UIDs that an instance needs.
    pub(crate) fn identity(&mut self) -> &mut Self {
        self.put(Tag(0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.2\0")
            .put(Tag(0x0008, 0x0018), VR::UI, b"1.2.3.4\0")
            .put(Tag(0x0020, 0x000D), VR::UI, b"1.2\0")
            .put(Tag(0x0020, 0x000E), VR::UI, b"1.2.3\0")
    }

    /// The attributes that frames are computed from.
    pub(crate) fn image(&mut self, rows: u16, columns: u16, samples: u16, bits: u16, frames: &str) -> &mut Self {
        self.put(Tag(0x0028, 0x0002), VR::US, &samples.to_le_bytes());
        if !frames.is_empty() {
            self.put(Tag(0x0028, 0x0008), VR::IS, frames.as_bytes());
        }
        self.put(Tag(0x0028, 0x0010), VR::US, &rows.to_le_bytes())
            .put(Tag(0x0028, 0x0011), VR::US, &columns.to_le_bytes())
            .put(Tag(0x0028, 0x0100), VR::US, &bits.to_le_bytes())
    }
}

/// Preamble, `DICM` and file meta information that names a transfer syntax.
pub(crate) fn part10(transfer_syntax: &str) -> Vec<u8> {
    let mut text = transfer_syntax.as_bytes().to_vec();
    text.resize(text.len().next_multiple_of(2), 0);
    let mut group = Writer::new(EXPLICIT);
    group.put(Tag(2, 0x0010), VR::UI, &text);
    let length = u32::try_from(group.bytes.len()).unwrap();
    let mut file = Writer::new(EXPLICIT);
    file.raw(&[0; 128]).raw(b"DICM").put(Tag(2, 0), VR::UL, &length.to_le_bytes()).raw(&group.bytes);
    file.bytes
}

/// A file of a transfer syntax around a data set.
pub(crate) fn file(transfer_syntax: &str, layout: Layout, dataset: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new(layout);
    dataset(&mut writer);
    [part10(transfer_syntax), writer.bytes].concat()
}
