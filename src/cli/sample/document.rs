//! A PDF of one page of text.

use std::fmt::Write;

/// A PDF with lines of text, which must be ASCII.
pub fn pdf(title: &str, lines: &[String]) -> Vec<u8> {
    let mut page = format!("BT /F1 18 Tf 72 760 Td ({}) Tj /F1 11 Tf 0 -12 Td\n", escaped(title));
    for line in lines {
        let _ = writeln!(page, "0 -18 Td ({}) Tj", escaped(line));
    }
    page.push_str("ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{page}\nendstream", page.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (number, object) in (1..).zip(&objects) {
        let _ = writeln!(table, "{:010} 00000 n ", file.len());
        let _ = writeln!(file, "{number} 0 obj\n{object}\nendobj");
    }
    let start = file.len();
    file.push_str(&table);
    let _ = writeln!(file, "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF", objects.len() + 1);
    file.into_bytes()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('(', "\\(").replace(')', "\\)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_points_at_the_objects() {
        let file = String::from_utf8(pdf("A (title)", &["line".to_owned()])).unwrap();
        let start: usize = file.lines().rev().nth(1).unwrap().parse().unwrap();
        assert!(file[start..].starts_with("xref\n0 6\n"));
        for (number, line) in (1..).zip(file[start..].lines().skip(3).take(5)) {
            let place: usize = line[..10].parse().unwrap();
            assert!(file[place..].starts_with(&format!("{number} 0 obj")), "{line}");
        }
    }
}
