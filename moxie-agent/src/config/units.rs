//! Durations and sizes: a number with its unit, never a bare number.

use std::time::Duration;

use toml::Value;

use super::raw::Setting;

/// A number of bytes, written `64KiB`, `64MiB`, `1GiB`, `512B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

/// Longest first, so that `KiB` is not read as `B`.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl Setting for Duration {
    fn read(value: &Value) -> Result<Self, String> {
        let wrong = || format!("is {value}: write a number and its unit, such as \"50ms\" or \"3s\"");
        let text = value.as_str().ok_or_else(wrong)?;
        // humantime takes a bare "0"; a duration here always names its unit.
        if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
            return Err(wrong());
        }
        humantime::parse_duration(text).map_err(|_| wrong())
    }
}

impl Setting for Size {
    fn read(value: &Value) -> Result<Self, String> {
        let text = value.as_str().map(str::trim);
        text.and_then(parse_size)
            .map(Self)
            .ok_or_else(|| format!("is {value}: write a number and its unit, such as \"64KiB\" or \"64MiB\""))
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, factor) =
        SIZE_UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), factor)))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        for (text, expected) in [
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("2kB", Some(2_000)),
            ("1GiB", Some(1 << 30)),
            ("64", None),
            ("KiB", None),
            ("-1B", None),
            ("1.5MiB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(Size::read(&Value::String(text.into())).ok().map(|size| size.0), expected, "{text}");
        }
        assert!(Size::read(&Value::Integer(64)).is_err());
    }

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, expected) in
            [("50ms", Some(50)), ("3s", Some(3_000)), ("1m 5s", Some(65_000)), ("0", None), ("3", None)]
        {
            let read = Duration::read(&Value::String(text.into())).ok();
            assert_eq!(read, expected.map(Duration::from_millis), "{text}");
        }
        assert!(Duration::read(&Value::Integer(3)).is_err());
    }
}
