//! The `Range` header (RFC 9110 section 14).

use std::ops::Range;

use http::HeaderValue;

/// One range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum ByteRange {
    /// From this byte to that one inclusive, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

/// What a range comes to, of a representation of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) enum Satisfied {
    /// These bytes, at least one.
    Part(Range<u64>),
    /// None there are.
    Unsatisfiable,
}

impl ByteRange {
    /// Reads the header. `None` where it is malformed or in other units, and so to be ignored. Of
    /// several ranges the first is taken: a server need not send all of them.
    pub(in crate::gateway) fn parse(value: &HeaderValue) -> Option<Self> {
        let ranges = value.to_str().ok()?.strip_prefix("bytes=")?;
        let first = ranges.split(',').map(str::trim).find(|range| !range.is_empty())?;
        let (from, to) = first.split_once('-')?;
        if from.is_empty() {
            return Some(Self::Last(number(to)?));
        }
        let from = number(from)?;
        let to = if to.is_empty() { None } else { Some(number(to)?) };
        to.is_none_or(|to| from <= to).then_some(Self::From(from, to))
    }

    /// The bytes that are meant, of `size`.
    pub(in crate::gateway) fn within(self, size: u64) -> Satisfied {
        let range = match self {
            Self::From(from, to) => from..to.map_or(size, |to| to.saturating_add(1).min(size)),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if range.is_empty() { Satisfied::Unsatisfiable } else { Satisfied::Part(range) }
    }
}

/// Digits only. What no file can be as large as is as good as the largest number.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_ignored() {
        let check = |text: &str, size, want: Option<Satisfied>| {
            let value = HeaderValue::from_str(text).unwrap();
            assert_eq!(ByteRange::parse(&value).map(|range| range.within(size)), want, "{text}");
        };
        check("bytes=0-", 10, Some(Satisfied::Part(0..10)));
        check("bytes=2-3", 10, Some(Satisfied::Part(2..4)));
        check("bytes=2-99", 10, Some(Satisfied::Part(2..10)));
        check("bytes=-3", 10, Some(Satisfied::Part(7..10)));
        check("bytes=-99", 10, Some(Satisfied::Part(0..10)));
        check("bytes=0-0,2-2", 10, Some(Satisfied::Part(0..1)));
        check("bytes=0-0", 0, Some(Satisfied::Unsatisfiable));
        check("bytes=-0", 10, Some(Satisfied::Unsatisfiable));
        check("bytes=10-", 10, Some(Satisfied::Unsatisfiable));
        check("bytes=99999999999999999999999-", 10, Some(Satisfied::Unsatisfiable));
        check("bytes=0-18446744073709551615", 10, Some(Satisfied::Part(0..10)));
        for ignored in ["bytes=3-2", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=+1-2"] {
            check(ignored, 10, None);
        }
    }
}
