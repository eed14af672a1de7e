//! Specific Character Set (0008,0005) → UTF-8, code extensions of ISO 2022 included (PS3.5 6.1, PS3.3 C.12.1.1.2).
//!
//! Any escape sequence of the standard is honoured, declared or not, so only the first defined term decides how text begins.
//! Terms are read without regard to case and punctuation (`ISO-IR 100`, `iso_ir 100`). Where nothing valid is declared,
//! and for bytes outside of the declared repertoire, the fallback is: UTF-8 where the bytes are valid UTF-8, else ISO 8859-1.
//! Bytes that no table knows become U+FFFD; nothing panics. Escape sequences that nobody knows stay in the text.

use std::borrow::Cow;

use dicom_core::VR;
use encoding_rs::{
    EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5, ISO_8859_6, ISO_8859_7,
    ISO_8859_8, ISO_8859_15, SHIFT_JIS, WINDOWS_874, WINDOWS_1254,
};

const ESCAPE: u8 = 0x1B;

/// How the text of a data set is encoded; inherited by its items unless they name their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CharacterSet(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// One encoding for everything, without code extensions: GB18030, GBK.
    Whole(&'static Encoding),
    /// ISO_IR 192.
    Utf8,
    /// Code elements that escape sequences may replace; these at the start.
    Extensible(State),
}

/// What the two halves of the code table mean at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    low: Low,
    high: High,
}

/// The code element of bytes 21 to 7E.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Low {
    /// ISO-IR 6, and ISO-IR 14, whose yen sign is the separator of values all the same (PS3.5 6.1.2.3).
    Ascii,
    /// ISO-IR 87.
    Jis0208,
    /// ISO-IR 159.
    Jis0212,
}

/// The code element of bytes A0 to FF.
#[derive(Clone, Copy, Debug, PartialEq)]
enum High {
    /// None is designated: the fallback.
    Nothing,
    /// ISO-IR 100.
    Latin1,
    /// Another table of single bytes.
    Single(&'static Encoding),
    /// ISO-IR 13; read as Shift JIS, which has it and which is what some devices write under its name.
    Katakana,
    /// ISO-IR 149 or ISO-IR 58, two bytes each.
    Double(&'static Encoding),
}

impl Default for CharacterSet {
    /// As when (0008,0005) is absent.
    fn default() -> Self {
        Self(Kind::Extensible(State { low: Low::Ascii, high: High::Nothing }))
    }
}

impl CharacterSet {
    /// Reads the raw value of (0008,0005).
    pub fn parse(raw: &[u8]) -> Self {
        let first = raw.split(|&byte| byte == b'\\').next().unwrap_or(&[]);
        let term: String = first
            .iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .map(|&byte| char::from(byte.to_ascii_uppercase()))
            .collect();
        let starting = |high| Self(Kind::Extensible(State { low: Low::Ascii, high }));
        match term.as_str() {
            "GB18030" => return Self(Kind::Whole(GB18030)),
            "GBK" | "ISO2022GBK" => return Self(Kind::Whole(GBK)),
            "UTF8" => return Self(Kind::Utf8),
            "LATIN1" | "ISO88591" => return starting(High::Latin1),
            "ISO202258" => return starting(High::Double(GBK)),
            _ => {}
        }
        let registration = term.strip_prefix("ISO2022IR").or_else(|| term.strip_prefix("ISOIR"));
        match registration {
            Some("192") => Self(Kind::Utf8),
            Some("13") => starting(High::Katakana),
            Some("149") => starting(High::Double(EUC_KR)),
            Some("58") => starting(High::Double(GBK)),
            Some("100") => starting(High::Latin1),
            Some("101") => starting(High::Single(ISO_8859_2)),
            Some("109") => starting(High::Single(ISO_8859_3)),
            Some("110") => starting(High::Single(ISO_8859_4)),
            Some("126") => starting(High::Single(ISO_8859_7)),
            Some("127") => starting(High::Single(ISO_8859_6)),
            Some("138") => starting(High::Single(ISO_8859_8)),
            Some("144") => starting(High::Single(ISO_8859_5)),
            Some("148") => starting(High::Single(WINDOWS_1254)),
            Some("166") => starting(High::Single(WINDOWS_874)),
            Some("203") => starting(High::Single(ISO_8859_15)),
            // ISO_IR 6, ISO 2022 IR 87 and 159 (which are no beginning), and what nobody knows
            _ => Self::default(),
        }
    }

    /// Whether a text is a value of (0008,0005) as the standard writes it, so that every reader knows what it declares
    /// ([PS3.3 C.12.1.1.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.12.html)).
    #[must_use]
    pub fn is_defined(text: &str) -> bool {
        const SINGLE: [&str; 12] = ["13", "100", "101", "109", "110", "126", "127", "138", "144", "148", "166", "203"];
        const DOUBLE: [&str; 4] = ["87", "159", "149", "58"];
        let extension = |term: &str| term.strip_prefix("ISO 2022 IR ").map(str::to_owned);
        let single = |number: &String| number == "6" || SINGLE.contains(&number.as_str());
        match text.split_once('\\') {
            None if matches!(text, "ISO_IR 192" | "GB18030" | "GBK") => true,
            None => {
                text.strip_prefix("ISO_IR ").is_some_and(|number| SINGLE.contains(&number))
                    || extension(text).is_some_and(|number| single(&number))
            }
            Some((first, others)) => {
                (first.is_empty() || extension(first).is_some_and(|number| single(&number)))
                    && others.split('\\').all(|term| {
                        extension(term).is_some_and(|number| single(&number) || DOUBLE.contains(&number.as_str()))
                    })
            }
        }
    }

    /// The whole value of an element as text, separators and padding included. A byte `\` that is a part of a character of
    /// more bytes is not a `\` of the text, so that splitting afterwards ([`split`]) is safe.
    pub fn decode<'a>(&self, vr: VR, raw: &'a [u8]) -> Cow<'a, str> {
        if raw.is_ascii()
            && memchr::memchr(ESCAPE, raw).is_none()
            && let Ok(text) = std::str::from_utf8(raw)
        {
            return Cow::Borrowed(text);
        }
        if !is_affected(vr) {
            return fallback(raw);
        }
        match self.0 {
            Kind::Utf8 => String::from_utf8_lossy(raw),
            Kind::Whole(encoding) => encoding.decode_without_bom_handling(raw).0,
            Kind::Extensible(State { high: High::Nothing, .. }) if memchr::memchr(ESCAPE, raw).is_none() => {
                fallback(raw)
            }
            Kind::Extensible(initial) => Cow::Owned(Decoder::new(initial, vr).run(raw)),
        }
    }
}

/// The values of an element: separated by `\` except in the text VRs, where it is a character like others (PS3.5 6.2).
pub fn split(vr: VR, text: &str) -> impl Iterator<Item = &str> {
    let single = matches!(vr, VR::ST | VR::LT | VR::UT | VR::UR);
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        match memchr::memchr(b'\\', text.as_bytes()).filter(|_| !single).and_then(|at| text.split_at_checked(at)) {
            Some((value, after)) => {
                rest = after.get(1..);
                Some(value)
            }
            None => Some(text),
        }
    })
}

/// The VRs whose repertoire (0008,0005) extends (PS3.5 6.1.2.3).
fn is_affected(vr: VR) -> bool {
    matches!(vr, VR::PN | VR::LO | VR::SH | VR::ST | VR::LT | VR::UC | VR::UT)
}

/// Bytes of which nothing is known: UTF-8 where they are valid, else ISO 8859-1.
fn fallback(raw: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(raw) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(raw.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// The state machine of ISO 2022 as PS3.5 6.1.2.5 restricts it.
struct Decoder {
    initial: State,
    state: State,
    vr: VR,
    text: String,
}

impl Decoder {
    fn new(initial: State, vr: VR) -> Self {
        Self { initial, state: initial, vr, text: String::new() }
    }

    fn run(mut self, raw: &[u8]) -> String {
        self.text.reserve(raw.len());
        let mut rest = raw;
        while let Some(&first) = rest.first() {
            let taken = match first {
                ESCAPE => self.escape(rest),
                // the initial state returns before any control character (PS3.5 6.1.2.5.3)
                0x00..=0x1F => {
                    self.state = self.initial;
                    self.plain(first)
                }
                0x21..=0x7E if self.state.low != Low::Ascii => self.double_low(rest),
                0x20..=0x7F => self.ascii(first),
                0x80..=0x9F if self.state.high != High::Katakana => self.plain(first),
                0x80..=0xFF => self.high(rest),
            };
            rest = rest.get(taken..).unwrap_or(&[]);
        }
        self.text
    }

    /// A character whose number is its byte.
    fn plain(&mut self, byte: u8) -> usize {
        self.text.push(char::from(byte));
        1
    }

    fn ascii(&mut self, byte: u8) -> usize {
        if self.is_delimiter(byte) {
            self.state = self.initial;
        }
        self.plain(byte)
    }

    fn is_delimiter(&self, byte: u8) -> bool {
        match byte {
            b'\\' => !matches!(self.vr, VR::ST | VR::LT | VR::UT),
            b'^' | b'=' => self.vr == VR::PN,
            _ => false,
        }
    }

    /// The longest escape sequence that is known; an unknown one stays in the text.
    fn escape(&mut self, rest: &[u8]) -> usize {
        let after = rest.get(1..).unwrap_or(&[]);
        let single = |encoding| Some(High::Single(encoding));
        let (low, high, length) = match after {
            [b'(', b'B' | b'J', ..] => (Some(Low::Ascii), None, 3),
            [b'$', b'B' | b'@', ..] => (Some(Low::Jis0208), None, 3),
            [b'$', b'(', b'D', ..] => (Some(Low::Jis0212), None, 4),
            [b'$', b'(', b'B' | b'@', ..] => (Some(Low::Jis0208), None, 4),
            [b'$', b')', b'C', ..] => (None, Some(High::Double(EUC_KR)), 4),
            [b'$', b')', b'A', ..] => (None, Some(High::Double(GBK)), 4),
            [b')', b'I', ..] => (None, Some(High::Katakana), 3),
            [b'-', b'A', ..] => (None, Some(High::Latin1), 3),
            [b'-', b'B', ..] => (None, single(ISO_8859_2), 3),
            [b'-', b'C', ..] => (None, single(ISO_8859_3), 3),
            [b'-', b'D', ..] => (None, single(ISO_8859_4), 3),
            [b'-', b'F', ..] => (None, single(ISO_8859_7), 3),
            [b'-', b'G', ..] => (None, single(ISO_8859_6), 3),
            [b'-', b'H', ..] => (None, single(ISO_8859_8), 3),
            [b'-', b'L', ..] => (None, single(ISO_8859_5), 3),
            [b'-', b'M', ..] => (None, single(WINDOWS_1254), 3),
            [b'-', b'T', ..] => (None, single(WINDOWS_874), 3),
            [b'-', b'b', ..] => (None, single(ISO_8859_15), 3),
            _ => return self.plain(ESCAPE),
        };
        self.state.low = low.unwrap_or(self.state.low);
        self.state.high = high.unwrap_or(self.state.high);
        length
    }

    /// A kanji of two low bytes. A delimiter that no second byte follows is one: some writers
    /// leave out the return to ASCII before it.
    fn double_low(&mut self, rest: &[u8]) -> usize {
        let (Some(&first), second) = (rest.first(), rest.get(1).copied()) else { return 1 };
        let Some(second) = second.filter(|byte| (0x21..=0x7E).contains(byte)) else {
            if self.is_delimiter(first) {
                self.state = self.initial;
                return self.plain(first);
            }
            self.text.push(char::REPLACEMENT_CHARACTER);
            return 1;
        };
        let pair = [first | 0x80, second | 0x80];
        if self.state.low == Low::Jis0212 {
            self.push_decoded(EUC_JP, &[0x8F, pair[0], pair[1]]);
        } else {
            let (text, _) = EUC_JP.decode_without_bom_handling(&pair);
            self.text.extend(text.chars().map(as_jis_has_it));
        }
        2
    }

    /// A run of high bytes in the designated code element.
    fn high(&mut self, rest: &[u8]) -> usize {
        let run = rest.iter().position(|&byte| byte < 0xA0).unwrap_or(rest.len());
        match self.state.high {
            High::Nothing => {
                let text = fallback(rest.get(..run).unwrap_or(&[]));
                self.text.push_str(&text);
                run
            }
            High::Latin1 => {
                self.text.extend(rest.iter().take(run).map(|&byte| char::from(byte)));
                run
            }
            High::Single(encoding) | High::Double(encoding) => {
                self.push_decoded(encoding, rest.get(..run).unwrap_or(&[]));
                run
            }
            High::Katakana => {
                let length =
                    if matches!(rest, [0x81..=0x9F | 0xE0..=0xFC, 0x40..=0x7E | 0x80..=0xFC, ..]) { 2 } else { 1 };
                self.push_decoded(SHIFT_JIS, rest.get(..length).unwrap_or(&[]));
                length
            }
        }
    }

    fn push_decoded(&mut self, encoding: &'static Encoding, bytes: &[u8]) {
        let (text, _) = encoding.decode_without_bom_handling(bytes);
        self.text.push_str(&text);
    }
}

/// Six characters of JIS X 0208 that the tables of the web map to forms of full width.
fn as_jis_has_it(letter: char) -> char {
    match letter {
        '\u{FF5E}' => '\u{301C}',
        '\u{2225}' => '\u{2016}',
        '\u{FF0D}' => '\u{2212}',
        '\u{FFE0}' => '\u{00A2}',
        '\u{FFE1}' => '\u{00A3}',
        '\u{FFE2}' => '\u{00AC}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{CharacterSet, split};

    fn decoded(terms: &str, vr: VR, raw: &[u8]) -> String {
        CharacterSet::parse(terms.as_bytes()).decode(vr, raw).into_owned()
    }

    #[test]
    fn the_examples_of_the_standard_decode_as_it_says() {
        // PS3.5 annexes H, I, J, K and PS3.3 C.12.1.1.2
        for (terms, raw, wanted) in [
            ("ISO_IR 100", &b"Buc^J\xe9r\xf4me"[..], "Buc^Jérôme"),
            ("ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa"),
            ("ISO_IR 109", b"antaa\xfd\xa1", "antaaŭĦ"),
            ("ISO_IR 110", b"\xa3\xbf", "Ŗŋ"),
            ("ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
            ("ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
            ("ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
            ("ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
            ("ISO_IR 148", b"\xc7avu\xfeo\xf0lu", "Çavuşoğlu"),
            ("ISO_IR 166", b"\xb9\xd2\xc2", "นาย"),
            ("ISO_IR 203", b"\xbd\xa4", "œ€"),
            ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
            ("ISO_IR 192", "Wang^XiaoDong=王^小東".as_bytes(), "Wang^XiaoDong=王^小東"),
            ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东"),
            ("GBK", b"\xcd\xf5^\xd0\xa1\xb6\xab", "王^小东"),
            ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
            ),
            ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
            ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^XiaoDong=张^小东"),
            ("\\ISO 2022 IR 159", b"\x1b$(D\x30\x21\x1b(B", "丂"),
            ("ISO 2022 IR 100\\ISO 2022 IR 144", b"\xe9\x1b-L\xbb\xee", "éЛю"),
        ] {
            assert_eq!(decoded(terms, VR::PN, raw), wanted, "{terms}");
        }
    }

    #[test]
    fn misspelt_terms_are_understood_and_unknown_ones_fall_back() {
        for terms in
            ["ISO-IR 100", "iso_ir 100", "ISO IR 100", "ISO_IR_100 ", "ISO_IR100", "latin_1", "ISO 2022 IR 100"]
        {
            assert_eq!(decoded(terms, VR::LO, b"\xe9\xc3\xa9"), "éÃ©", "{terms}");
        }
        for terms in ["", "ISO_IR 6", "ISO_IR 999", "\0\0", "nonsense", "\\ISO 2022 IR 87"] {
            assert_eq!(decoded(terms, VR::LO, "né".as_bytes()), "né", "{terms}");
            assert_eq!(decoded(terms, VR::LO, b"n\xe9"), "né", "{terms}");
        }
    }

    #[test]
    fn a_backslash_inside_a_character_separates_nothing() {
        for (terms, raw, wanted) in [
            // the second byte of these characters is 5C
            ("GBK", &b"\x81\x5c\\a"[..], 2),
            ("GB18030", b"\x81\x5c\\a", 2),
            ("ISO_IR 13", b"\x83\x5c\\\x95\x5c", 2),
            ("\\ISO 2022 IR 87", b"\x1b$B;\x5c\x1b(B\\\x1b$B\x5c!\x1b(B", 2),
            ("ISO_IR 192", "é\\ü\\".as_bytes(), 3),
        ] {
            let text = decoded(terms, VR::LO, raw);
            assert_eq!(split(VR::LO, &text).count(), wanted, "{terms}: {text}");
            assert!(!text.contains(char::REPLACEMENT_CHARACTER), "{terms}: {text}");
        }
        assert_eq!(split(VR::LT, "a\\b").collect::<Vec<_>>(), ["a\\b"]);
        assert_eq!(split(VR::LO, "\\").collect::<Vec<_>>(), ["", ""]);
    }

    #[test]
    fn delimiters_and_control_characters_return_to_the_first_code_elements() {
        let terms = "ISO 2022 IR 100\\ISO 2022 IR 144";
        assert_eq!(decoded(terms, VR::LO, b"\x1b-L\xbb\\\xbb"), "Л\\»");
        assert_eq!(decoded(terms, VR::PN, b"\x1b-L\xbb^\xbb=\x1b-L\xbb=\xbb"), "Л^»=Л=»");
        assert_eq!(decoded(terms, VR::LO, b"\x1b-L\xbb^\xbb"), "Л^Л");
        for control in ["\r\n", "\x0c", "\t"] {
            let raw = [b"\x1b-L\xbb", control.as_bytes(), b"\xbb"].concat();
            assert_eq!(decoded(terms, VR::LT, &raw), format!("Л{control}»"));
        }
        assert_eq!(decoded(terms, VR::LT, b"\x1b-L\xbb\\\xbb"), "Л\\Л");
        // the return to ASCII before the delimiter is missing
        assert_eq!(decoded("\\ISO 2022 IR 87", VR::PN, b"\x1b$B;3ED^\x1b$BB@O:"), "山田^太郎");
    }

    #[test]
    fn other_vrs_have_the_default_repertoire_whatever_is_declared() {
        assert_eq!(decoded("ISO_IR 144", VR::CS, b"\xbb"), "»");
        assert_eq!(decoded("ISO_IR 100", VR::UI, "é".as_bytes()), "é");
    }

    #[test]
    fn an_unknown_escape_sequence_stays_in_the_text() {
        assert_eq!(decoded("\\ISO 2022 IR 87", VR::LO, b"a\x1b%Gb\x1b"), "a\x1b%Gb\x1b");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_panic(raw in any::<Vec<u8>>(), term in 0_usize..12) {
            let terms = ["", "ISO_IR 13", "ISO_IR 100", "ISO_IR 144", "ISO_IR 166", "ISO_IR 192", "GBK", "GB18030",
                "\\ISO 2022 IR 87", "ISO 2022 IR 149", "ISO 2022 IR 58", "ISO 2022 IR 13\\ISO 2022 IR 159"];
            for vr in [VR::PN, VR::LO, VR::LT, VR::CS] {
                let _ = decoded(terms[term], vr, &raw);
            }
            let _ = CharacterSet::parse(&raw);
        }

        #[test]
        fn escapes_among_wild_bytes_never_panic(raw in "(\u{1b}(\\$B|\\(B|\\$\\)C|-L|\\)I|\\$\\(D)|[ -~]|\\^|\\\\){0,20}") {
            let _ = decoded("\\ISO 2022 IR 87", VR::PN, raw.as_bytes());
        }

        #[test]
        fn ascii_is_itself_in_every_character_set(text in "[ -~]{0,40}", term in 0_usize..6) {
            let terms = ["", "ISO_IR 13", "ISO_IR 100", "ISO_IR 192", "GB18030", "\\ISO 2022 IR 149"];
            assert_eq!(decoded(terms[term], VR::LT, text.as_bytes()), text);
        }
    }
}
