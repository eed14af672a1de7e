//! Rust source as text for `tidy.rs`: comments and literals blanked, test code and functions located.

use std::ops::Range;

/// One file, blanked so that only code is left; line and column of everything stay.
pub struct Source {
    path: String,
    code: String,
    tests: Vec<Range<usize>>,
    test_files: Vec<String>,
    all_test: bool,
}

impl Source {
    /// `all_test` says that the file is a module of tests only.
    pub fn new(path: &str, text: &str, all_test: bool) -> Self {
        let code = blank(text);
        let (mut tests, mut test_files) = (Vec::new(), Vec::new());
        for (at, _) in code.match_indices("#[cfg(test)]") {
            // an item without a body (`mod tests;`) lies in a file of its own
            let end = match code[at..].find(['{', ';']) {
                Some(open) if code.as_bytes()[at + open] == b'{' => closing(&code, at + open),
                Some(semicolon) => at + semicolon,
                None => code.len(),
            };
            tests.push(line_of(&code, at)..line_of(&code, end) + 1);
            test_files.extend(declared_file(path, &text[at..end], &code[at..end]));
        }
        Self { path: path.to_owned(), code, tests, test_files, all_test }
    }

    /// The files of modules that are declared for tests only.
    pub fn test_files(self) -> Vec<String> {
        self.test_files
    }

    /// The module below `src/` that the file belongs to.
    pub fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// As many `super` as lead from this file's module to the crate.
    pub fn way_to_the_crate(&self) -> String {
        let own = usize::from(!self.path.ends_with("/mod.rs"));
        let depth = self.path.matches('/').count().saturating_sub(1) + own;
        vec!["super"; depth.max(1)].join("::")
    }

    /// Lines of code by number, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether a line belongs to a test.
    pub fn is_test(&self, line: usize) -> bool {
        self.all_test || self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// How many lines the file has without its tests.
    pub fn own_lines(&self) -> usize {
        self.lines().filter(|(line, _)| !self.is_test(*line)).count()
    }

    /// Every path after `crate::` with its line; groups in braces one by one.
    pub fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        for at in words(&self.code, "crate") {
            if let Some(rest) = self.code[at..].strip_prefix("crate::") {
                let line = line_of(&self.code, at);
                expand(rest, "", &mut |path| paths.push((line, path)));
            }
        }
        paths
    }

    /// Functions with a body: their lines and names.
    pub fn functions(&self) -> Vec<(Range<usize>, String)> {
        let mut functions = Vec::new();
        for at in words(&self.code, "fn") {
            let name: String =
                self.code[at + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(open) = self.code[at..].find(['{', ';']).map(|offset| at + offset) else { continue };
            if !name.is_empty() && self.code.as_bytes()[open] == b'{' {
                functions.push((line_of(&self.code, at)..line_of(&self.code, closing(&self.code, open)) + 1, name));
            }
        }
        functions
    }
}

/// The file of `#[cfg(test)] mod name`, which may have a `#[path = "…"]`, declared in `path`.
fn declared_file(path: &str, text: &str, code: &str) -> Option<String> {
    let name =
        code.rsplit_once("mod ").map(|(_, name)| name.trim()).filter(|name| !name.contains(char::is_whitespace))?;
    let (folder, file) = path.rsplit_once('/')?;
    if let Some((_, rest)) = text.split_once("#[path = \"") {
        return Some(format!("{folder}/{}", rest.split('"').next()?));
    }
    let inside = if matches!(file, "mod.rs" | "lib.rs" | "main.rs") {
        folder.to_owned()
    } else {
        path.trim_end_matches(".rs").to_owned()
    };
    Some(format!("{inside}/{name}.rs"))
}

/// Where `word` stands with no identifier character before it, and none after it unless it is a call with variants (`now_utc`, `vars`).
pub fn words(code: &str, word: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let open_end = word.ends_with(|c: char| !part(c)) || word.ends_with("::var") || word.ends_with("::now");
    let found = code
        .match_indices(word)
        .filter(|(at, _)| !code[..*at].ends_with(part) && (open_end || !code[at + word.len()..].starts_with(part)));
    found.map(|(at, _)| at).collect()
}

/// `a::{b, c::d}` → `a::b`, `a::c::d`.
pub fn expand(text: &str, prefix: &str, found: &mut impl FnMut(String)) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let path = text[..end].trim_end_matches(':');
    if !text[end..].starts_with('{') {
        found(format!("{prefix}{path}"));
        return;
    }
    let prefix = if path.is_empty() { prefix.to_owned() } else { format!("{prefix}{path}::") };
    let (mut depth, mut start) = (0, end + 1);
    for at in end..=closing(text, end).min(text.len() - 1) {
        match text.as_bytes()[at] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        let ends_item = (depth == 1 && text.as_bytes()[at] == b',') || depth == 0;
        if ends_item {
            let item = text[start..at].trim();
            if !item.is_empty() {
                expand(item, &prefix, found);
            }
            start = at + 1;
        }
    }
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at.min(code.len())].matches('\n').count() + 1
}

/// The brace that closes the one at `open`, or the end.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Replaces everything in comments, strings and character literals by spaces.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = literal(rest, out.chars().next_back());
        if length > 0 {
            // one space for each byte keeps every offset
            out.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        } else {
            let mut characters = rest.chars();
            let next = characters.next().unwrap_or(' ');
            if next.is_ascii() {
                out.push(next);
            } else {
                out.extend(std::iter::repeat_n(' ', next.len_utf8()));
            }
            rest = characters.as_str();
        }
    }
    out
}

/// The length of the comment or literal at the start of `text`, or 0.
fn literal(text: &str, before: Option<char>) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = text.strip_prefix('b').unwrap_or(text);
    if let Some(hashes) = raw.strip_prefix('r').filter(|_| !in_word || before == Some('b')) {
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        if hashes[count..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(count));
            let start = text.len() - hashes.len() + count + 1;
            return text[start..].find(&end).map_or(text.len(), |at| start + at + end.len());
        }
    }
    if let Some(inside) = text.strip_prefix('\'') {
        // a lifetime has no closing quote after its first character
        let mut characters = inside.chars();
        let first = characters.next();
        if first == Some('\\') || characters.next() == Some('\'') {
            return quoted(text, '\'');
        }
    }
    0
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}
