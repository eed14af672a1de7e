//! Synthetic CT images: 512 × 512 pixels of 16 bits of noise over a disc, in Explicit VR Little Endian.
//!
//! A file is made once; what differs between instances has a fixed length and is written over it. Pixels are shared by all, so
//! that what the program does itself takes little from the server beside it.

use std::sync::Arc;

use bytes::Bytes;

const SIDE: usize = 512;
/// Bytes of one frame.
pub const FRAME_BYTES: usize = SIDE * SIDE * 2;

/// Which of the data sets of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Images stored one per request.
    Single,
    /// Images stored ten per request.
    Batched,
    /// Studies of one small instance each, to search among.
    Small,
    /// Images stored a hundred per request.
    Hundreds,
    /// Images of 64 × 64 pixels, stored one per request.
    Tiny,
    /// The same, ten per request.
    TinyBatched,
    /// Enhanced images of many frames.
    Large,
}

/// Every instance that a run stores, by number.
#[derive(Clone)]
pub struct Plan {
    seed: u32,
    /// Images of one series; each series is a study.
    pub series_size: u32,
    /// Images of each of the two image sets.
    pub images: u32,
    /// Small studies.
    pub studies: u32,
    image: Arc<Template>,
    small: Arc<Template>,
    tiny: Arc<Template>,
    large: Arc<Template>,
}

struct Template {
    header: Vec<u8>,
    fields: Vec<Field>,
    frame: Bytes,
    frames: u32,
}

/// A file: its bytes up to the pixel data, then one frame so many times.
#[derive(Clone)]
pub struct File {
    header: Bytes,
    frame: Bytes,
    frames: u32,
}

impl File {
    /// Its bytes in pieces, none of them copied.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> + use<> {
        let frames = std::iter::repeat_n(self.frame.clone(), self.frames as usize);
        std::iter::once(self.header.clone()).chain(frames)
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.header.len() as u64 + self.frame.len() as u64 * u64::from(self.frames)
    }

    /// Whether these bytes begin with it.
    pub fn begins(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        self.pieces().all(|piece| rest.split_off(..piece.len()).is_some_and(|start| start == piece))
    }
}

struct Field {
    position: usize,
    length: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Study,
    Series,
    Instance,
    Patient,
    Name,
    Accession,
    Date,
    Number,
}

/// What is known of an instance.
pub struct Identity {
    /// Study Instance UID.
    pub study: String,
    /// Series Instance UID.
    pub series: String,
    /// SOP Instance UID.
    pub instance: String,
    /// Patient ID.
    pub patient: String,
    /// Patient's Name.
    pub name: String,
    /// Accession Number.
    pub accession: String,
    /// Study Date.
    pub date: String,
}

impl Plan {
    /// A plan whose UIDs depend on the seed.
    pub fn new(seed: u32, series: u32, series_size: u32, studies: u32, frames: u32) -> Self {
        let [image, small, tiny] = [SIDE, 16, 64].map(|side| Arc::new(template(CT, side, 1)));
        let large = Arc::new(template(ENHANCED_CT, SIDE, frames));
        Self { seed, series_size, images: series * series_size, studies, image, small, tiny, large }
    }

    /// The identity of instance `number` of a set.
    pub fn identity(&self, set: Set, number: u32) -> Identity {
        let study = if set == Set::Small { number } else { number / self.series_size };
        let kind = set as u32 + 1;
        // every UID of a kind is of one length, which the places in the template have
        let base = format!("2.25.{}.{kind}.{}", 100_000 + self.seed % 900_000, 100_000 + study % 900_000);
        let day = study % 28 + 1;
        let month = study / 28 % 12 + 1;
        Identity {
            study: base.clone(),
            series: format!("{base}.1"),
            instance: format!("{base}.1.{}", 100_000 + number % 900_000),
            patient: format!("LOAD-{kind}-{study:06}"),
            name: format!("Phantom{kind}x{study:06}^Head"),
            accession: format!("A{kind}{study:06}"),
            date: format!("{:04}{month:02}{day:02}", 1990 + study / 336 % 30),
        }
    }

    /// The file of instance `number` of a set.
    pub fn file(&self, set: Set, number: u32) -> File {
        let identity = self.identity(set, number);
        let template = match set {
            Set::Small => &self.small,
            Set::Tiny | Set::TinyBatched => &self.tiny,
            Set::Large => &self.large,
            Set::Single | Set::Batched | Set::Hundreds => &self.image,
        };
        let mut header = template.header.clone();
        for field in &template.fields {
            let number = format!("{}", number % self.series_size + 1);
            let text = match field.kind {
                Kind::Study => &identity.study,
                Kind::Series => &identity.series,
                Kind::Instance => &identity.instance,
                Kind::Patient => &identity.patient,
                Kind::Name => &identity.name,
                Kind::Accession => &identity.accession,
                Kind::Date => &identity.date,
                Kind::Number => &number,
            };
            let slot = &mut header[field.position..field.position + field.length];
            slot[..text.len()].copy_from_slice(text.as_bytes());
        }
        File { header: header.into(), frame: template.frame.clone(), frames: template.frames }
    }
}

/// Writes the data set with empty places for what differs.
struct Writer {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Writer {
    fn header(&mut self, tag: (u16, u16), vr: &str, length: usize) {
        self.bytes.extend(tag.0.to_le_bytes());
        self.bytes.extend(tag.1.to_le_bytes());
        self.bytes.extend(vr.as_bytes());
        if matches!(vr, "OB" | "OW") {
            self.bytes.extend([0, 0]);
            self.bytes.extend(u32::try_from(length).expect("a value of this program is below 4 GB").to_le_bytes());
        } else {
            self.bytes
                .extend(u16::try_from(length).expect("a short value of this program is below 64 KiB").to_le_bytes());
        }
    }

    fn value(&mut self, tag: (u16, u16), vr: &str, value: &[u8]) {
        self.header(tag, vr, value.len().next_multiple_of(2));
        self.bytes.extend(value);
        if value.len() % 2 == 1 {
            self.bytes.push(if vr == "UI" || vr == "OB" { 0 } else { b' ' });
        }
    }

    fn text(&mut self, tag: (u16, u16), vr: &str, value: &str) {
        self.value(tag, vr, value.as_bytes());
    }

    fn number(&mut self, tag: (u16, u16), value: u16) {
        self.value(tag, "US", &value.to_le_bytes());
    }

    fn field(&mut self, tag: (u16, u16), vr: &str, length: usize, kind: Kind) {
        self.header(tag, vr, length);
        self.fields.push(Field { position: self.bytes.len(), length, kind });
        self.bytes.resize(self.bytes.len() + length, if vr == "UI" { 0 } else { b' ' });
    }
}

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const ENHANCED_CT: &str = "1.2.840.10008.5.1.4.1.1.2.1";

fn template(class: &str, side: usize, frames: u32) -> Template {
    let mut meta = Writer { bytes: Vec::new(), fields: Vec::new() };
    meta.value((0x0002, 0x0001), "OB", &[0, 1]);
    meta.text((0x0002, 0x0002), "UI", class);
    meta.field((0x0002, 0x0003), "UI", 30, Kind::Instance);
    meta.text((0x0002, 0x0010), "UI", "1.2.840.10008.1.2.1");
    meta.text((0x0002, 0x0012), "UI", "2.25.20");
    let mut writer = Writer { bytes: vec![0; 128], fields: Vec::new() };
    writer.bytes.extend(b"DICM");
    let length = u32::try_from(meta.bytes.len()).expect("file meta information is short");
    writer.value((0x0002, 0x0000), "UL", &length.to_le_bytes());
    let start = writer.bytes.len();
    writer.fields.extend(meta.fields.into_iter().map(|field| Field { position: field.position + start, ..field }));
    writer.bytes.extend(meta.bytes);
    dataset(&mut writer, class, side, frames);
    let frame = noisy_disc(side);
    writer.header((0x7fe0, 0x0010), "OW", frame.len() * frames as usize);
    Template { header: writer.bytes, fields: writer.fields, frame: frame.into(), frames }
}

fn dataset(writer: &mut Writer, class: &str, side: usize, frames: u32) {
    writer.text((0x0008, 0x0005), "CS", "ISO_IR 192");
    writer.text((0x0008, 0x0008), "CS", "ORIGINAL\\PRIMARY\\AXIAL");
    writer.text((0x0008, 0x0016), "UI", class);
    writer.field((0x0008, 0x0018), "UI", 30, Kind::Instance);
    writer.field((0x0008, 0x0020), "DA", 8, Kind::Date);
    writer.field((0x0008, 0x0021), "DA", 8, Kind::Date);
    writer.text((0x0008, 0x0030), "TM", "101112");
    writer.field((0x0008, 0x0050), "SH", 16, Kind::Accession);
    writer.text((0x0008, 0x0060), "CS", "CT");
    writer.text((0x0008, 0x0070), "LO", "Synthetic");
    writer.text((0x0008, 0x0090), "PN", "Referring^Physician");
    writer.text((0x0008, 0x1030), "LO", "Head without contrast");
    writer.text((0x0008, 0x103e), "LO", "axial 1 mm");
    writer.field((0x0010, 0x0010), "PN", 24, Kind::Name);
    writer.field((0x0010, 0x0020), "LO", 24, Kind::Patient);
    writer.text((0x0010, 0x0030), "DA", "19700101");
    writer.text((0x0010, 0x0040), "CS", "O");
    writer.text((0x0018, 0x0015), "CS", "HEAD");
    writer.text((0x0018, 0x0050), "DS", "1.0");
    writer.text((0x0018, 0x0060), "DS", "120");
    writer.text((0x0018, 0x1151), "IS", "200");
    writer.text((0x0018, 0x5100), "CS", "HFS");
    writer.field((0x0020, 0x000d), "UI", 20, Kind::Study);
    writer.field((0x0020, 0x000e), "UI", 22, Kind::Series);
    writer.text((0x0020, 0x0010), "SH", "1");
    writer.text((0x0020, 0x0011), "IS", "1");
    writer.field((0x0020, 0x0013), "IS", 4, Kind::Number);
    writer.text((0x0020, 0x0032), "DS", "-125.0\\-125.0\\0.0");
    writer.text((0x0020, 0x0037), "DS", "1\\0\\0\\0\\1\\0");
    writer.text((0x0020, 0x0052), "UI", "2.25.21");
    writer.number((0x0028, 0x0002), 1);
    writer.text((0x0028, 0x0004), "CS", "MONOCHROME2");
    if frames > 1 {
        writer.text((0x0028, 0x0008), "IS", &frames.to_string());
    }
    let pixels = u16::try_from(side).expect("the side of an image is small");
    writer.number((0x0028, 0x0010), pixels);
    writer.number((0x0028, 0x0011), pixels);
    writer.text((0x0028, 0x0030), "DS", "0.488\\0.488");
    for (element, value) in [(0x0100, 16), (0x0101, 16), (0x0102, 15), (0x0103, 1)] {
        writer.number((0x0028, element), value);
    }
    writer.text((0x0028, 0x1050), "DS", "40");
    writer.text((0x0028, 0x1051), "DS", "400");
    writer.text((0x0028, 0x1052), "DS", "0");
    writer.text((0x0028, 0x1053), "DS", "1");
}

/// A disc of about 40 HU in air with noise, from a generator of fixed seed.
fn noisy_disc(side: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let centre = side / 2;
    let mut bytes = Vec::with_capacity(side * side * 2);
    for row in 0..side {
        for column in 0..side {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let inside = row.abs_diff(centre).pow(2) + column.abs_diff(centre).pow(2) < (side * 2 / 5).pow(2);
            let noise = i16::try_from(state % 32).expect("below 32");
            bytes.extend((if inside { 40 + noise } else { -1000 + noise }).to_le_bytes());
        }
    }
    bytes
}
