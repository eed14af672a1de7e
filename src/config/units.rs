//! Sizes and durations as people write them: `64 MiB`, `30s`.

use std::time::Duration;

/// Units of sizes, the largest first.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Units of durations in milliseconds, the largest first.
const DURATIONS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size such as `64 MiB`, `5GB` or a plain number of bytes.
///
/// # Errors
/// Says what would be accepted.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let unit = |name: &str| match name {
        "" => Some(1),
        name => SIZES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, bytes)| *bytes),
    };
    parse(text, unit).ok_or_else(|| format!("`{text}` must be a size such as `64 MiB` or `5 GB`"))
}

/// Reads a duration such as `500ms`, `30s`, `5m`, `1h` or `7d`.
///
/// # Errors
/// Says what would be accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = |name: &str| DURATIONS.iter().find(|(known, _)| *known == name).map(|(_, millis)| *millis);
    parse(text, unit)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` must be a duration such as `500ms`, `30s`, `5m`, `1h` or `7d`"))
}

fn parse(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, name) = text.split_at(digits);
    number.parse::<u64>().ok()?.checked_mul(unit(name.trim())?)
}

/// A size in the largest unit that says it exactly.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    format(bytes, SIZES, " ")
}

/// A duration in the largest unit that says it exactly.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATIONS, "")
}

fn format(value: u64, units: &[(&str, u64)], blank: &str) -> String {
    let exact = units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = exact.or(units.last()).copied().unwrap_or(("", 1));
    format!("{}{blank}{name}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let cases = [
            ("64 MiB", 64 << 20, "64 MiB"),
            ("64mib", 64 << 20, "64 MiB"),
            ("5GB", 5_000_000_000, "5 GB"),
            ("1024", 1024, "1 KiB"),
            ("0", 0, "0 B"),
            ("1500 B", 1500, "1500 B"),
        ];
        for (text, bytes, shown) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), shown);
        }
        for text in ["", "MiB", "-1", "1.5 GB", "1 XB", "99999999999 TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_shown() {
        let cases = [
            ("30s", 30_000, "30s"),
            ("90 s", 90_000, "90s"),
            ("500ms", 500, "500ms"),
            ("60m", 3_600_000, "1h"),
            ("7d", 604_800_000, "7d"),
            ("168h", 604_800_000, "7d"),
        ];
        for (text, millis, shown) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(millis)), shown);
        }
        for text in ["", "30", "s", "-1s", "1w", "1.5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
