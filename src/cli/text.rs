//! Text of others for a terminal: names of files on a medium, words of a server.

/// The text with everything escaped that a terminal would obey instead of showing, so it is one line that looks like what
/// it is: control characters, line ends, and what turns the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        for (text, shown) in [
            ("Müller 肺/a b.dcm", "Müller 肺/a b.dcm"),
            ("a\x1b[2Jb", r"a\u{1b}[2Jb"),
            ("\x1b]0;title\x07", r"\u{1b}]0;title\u{7}"),
            ("two\r\nlines\t", r"two\r\nlines\t"),
            ("\u{9b}31m\x7f", r"\u{9b}31m\u{7f}"),
            ("a\u{202e}mcd.b\u{2028}", r"a\u{202e}mcd.b\u{2028}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
