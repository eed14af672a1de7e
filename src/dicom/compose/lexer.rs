//! JSON as a sequence of tokens (RFC 8259), strict, without recursion.
//!
//! Numbers keep their text: DS and IS are decimal text, and a double would not give it back.

use std::borrow::Cow;

use crate::dicom::compose::error::ComposeError;

/// Deepest nesting of brackets in what is skipped.
const DEEPEST: usize = 4096;

/// A text being read.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The position of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The same text from another position.
    pub(super) fn from(&self, at: usize) -> Self {
        Self { text: self.text, at }
    }

    pub(super) fn error(&self, what: &'static str) -> ComposeError {
        ComposeError::Syntax { position: self.at, what }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is not blank.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let blanks = self.bytes().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.at += blanks;
        self.bytes().first().copied()
    }

    /// The end of the text, but for blanks.
    pub(super) fn end(&mut self) -> Result<(), ComposeError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.error("something follows the end of the JSON")) }
    }

    /// A bracket, colon or comma.
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), ComposeError> {
        if self.peek() != Some(byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether another member or element comes before the closing bracket, which is taken if not.
    pub(super) fn another(&mut self, first: &mut bool, close: u8) -> Result<bool, ComposeError> {
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',', "a comma or a closing bracket is missing")?;
        }
        Ok(true)
    }

    /// The name of a member and its colon.
    pub(super) fn key(&mut self) -> Result<Cow<'a, str>, ComposeError> {
        let key = self.string()?;
        self.expect(b':', "a colon is missing")?;
        Ok(key)
    }

    /// A string.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, ComposeError> {
        self.expect(b'"', "a string is missing")?;
        let plain = self.plain();
        match self.bytes().first() {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(plain))
            }
            Some(b'\\') => self.escaped(plain.to_owned()).map(Cow::Owned),
            _ => Err(self.error("a string is not closed or has a control character")),
        }
    }

    /// Text up to a quote, a backslash or a control character.
    fn plain(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
        self.at += end;
        // it ends before a byte of ASCII, so both sides are whole characters
        rest.get(..end).unwrap_or_default()
    }

    /// The rest of a string from its first backslash on.
    fn escaped(&mut self, mut text: String) -> Result<String, ComposeError> {
        loop {
            match self.bytes() {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(text);
                }
                [b'\\', b'u', ..] => text.push(self.code_point()?),
                [b'\\', escape, ..] => {
                    text.push(match escape {
                        b'"' | b'\\' | b'/' => char::from(*escape),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        _ => return Err(self.error("an escape is not one of JSON")),
                    });
                    self.at += 2;
                }
                _ => return Err(self.error("a string is not closed or has a control character")),
            }
            text.push_str(self.plain());
        }
    }

    /// `\uXXXX`, or two of them for what lies beyond 16 bits.
    fn code_point(&mut self) -> Result<char, ComposeError> {
        let unit = |bytes: &[u8]| match bytes {
            [b'\\', b'u', digits @ ..] => {
                let digits = digits.first_chunk::<4>().filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
                u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
            }
            _ => None,
        };
        let bytes = self.bytes();
        let (code, length) = match (unit(bytes), unit(bytes.get(6..).unwrap_or_default())) {
            (Some(high @ 0xD800..=0xDBFF), Some(low @ 0xDC00..=0xDFFF)) => {
                (Some(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)), 12)
            }
            (first, _) => (first, 6),
        };
        let character = code.and_then(char::from_u32).ok_or_else(|| self.error("an escape is no character"))?;
        self.at += length;
        Ok(character)
    }

    /// A number as it is written.
    pub(super) fn number(&mut self) -> Result<&'a str, ComposeError> {
        self.peek();
        let bytes = self.bytes();
        let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(end);
        if whole == 0 || (whole > 1 && bytes.get(end) == Some(&b'0')) {
            return Err(self.error("a value is missing or not one of JSON"));
        }
        end += whole;
        if bytes.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            if fraction == 0 {
                return Err(self.error("a number has no digit after its point"));
            }
            end += 1 + fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent == 0 {
                return Err(self.error("a number has no digit in its exponent"));
            }
            end += 1 + sign + exponent;
        }
        let number = self.text.get(self.at..self.at + end).unwrap_or_default();
        self.at += end;
        Ok(number)
    }

    /// `null`, `true` or `false`.
    pub(super) fn word(&mut self) -> Result<&'static str, ComposeError> {
        self.peek();
        let found = ["null", "true", "false"].into_iter().find(|word| self.bytes().starts_with(word.as_bytes()));
        let word = found.ok_or_else(|| self.error("a value is missing or not one of JSON"))?;
        self.at += word.len();
        Ok(word)
    }

    /// Any value, checked and dropped.
    pub(super) fn skip(&mut self) -> Result<(), ComposeError> {
        // of each open bracket: the closing one, and whether nothing has come in it yet
        let mut open: Vec<(u8, bool)> = Vec::new();
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if open.len() >= DEEPEST {
                        return Err(ComposeError::TooDeep(DEEPEST));
                    }
                    self.at += 1;
                    open.push((if bracket == b'{' { b'}' } else { b']' }, true));
                }
                Some(b'"') => drop(self.string()?),
                Some(b'n' | b't' | b'f') => drop(self.word()?),
                _ => drop(self.number()?),
            }
            loop {
                let Some((close, first)) = open.last_mut() else { return Ok(()) };
                if self.another(first, *close)? {
                    if *close == b'}' {
                        self.key()?;
                    }
                    break;
                }
                open.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy as _, any, prop_oneof, proptest};
    use serde_json::Value;

    use super::*;

    fn skipped(text: &str) -> Result<(), ComposeError> {
        let mut lexer = Lexer::new(text);
        lexer.skip()?;
        lexer.end()
    }

    #[test]
    fn what_is_json_is_what_the_usual_reader_takes() {
        for text in [
            "",
            " ",
            "null",
            "nul",
            "nulll",
            "true false",
            "0",
            "-0",
            "00",
            "-",
            "1.",
            "1.5e",
            "1.5e+3",
            ".5",
            "1e5",
            "+1",
            "\"a\"",
            "\"a",
            "\"\\u00e9\\n\\/\"",
            "\"\\x\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\u12\"",
            "\"\u{1}\"",
            "[]",
            "[,]",
            "[1,]",
            "[1 2]",
            "[1,2]",
            "{}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1,\"b\":[{}]}",
            "{a:1}",
            "[}",
            "[[[]]",
            "[]]",
            "\u{feff}[]",
            "NaN",
            "[1]x",
            " \t\r\n[ 1 , 2 ] ",
        ] {
            assert_eq!(skipped(text).is_ok(), serde_json::from_str::<Value>(text).is_ok(), "{text:?}");
        }
        let string = r#""\u00e9\n\/\ud83d\ude00\"\\ end""#;
        assert_eq!(Lexer::new(string).string().unwrap(), serde_json::from_str::<String>(string).unwrap());
    }

    #[test]
    fn nesting_is_bounded_and_costs_no_stack() {
        for text in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
            assert_eq!(skipped(&text), Err(ComposeError::TooDeep(DEEPEST)));
        }
        assert_eq!(skipped(&("[".repeat(4000) + &"]".repeat(4000))), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_as_the_usual_reader_judges_it(
            text in prop_oneof![
                any::<String>(),
                proptest::collection::vec(prop_oneof![
                    Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\"a\""), Just("1"), Just("-1.5"),
                    Just("null"), Just(" "), Just("\""), Just("\\u0041"),
                ], 0..12).prop_map(|pieces| pieces.concat()),
            ],
        ) {
            assert_eq!(skipped(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{text:?}");
        }
    }
}
