//! The `Range` header (RFC 9110 section 14).

use std::ops::Range;

use http::HeaderValue;

/// Most ranges of one request. Of more than that the first is served: who asks for so many small
/// parts gets along with one.
const RANGES_MAX: usize = 8;

/// One range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteRange {
    /// From this byte to that one inclusive, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

/// The ranges of one request, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Ranges {
    first: ByteRange,
    others: Vec<ByteRange>,
}

/// What ranges come to, of a representation of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) enum Satisfied {
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Several parts that neither overlap nor touch, in the order they were asked for.
    Parts(Vec<Range<u64>>),
    /// No byte of it.
    Unsatisfiable,
}

impl Ranges {
    /// Reads the header. `None` where it is malformed or in other units, and so to be ignored.
    pub(in crate::gateway) fn parse(value: &HeaderValue) -> Option<Self> {
        let (unit, ranges) = value.to_str().ok()?.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
        let first = ByteRange::parse(ranges.next()?)?;
        let mut others = Vec::new();
        for range in ranges {
            if others.len() + 1 == RANGES_MAX {
                others.clear();
                break;
            }
            others.push(ByteRange::parse(range)?);
        }
        Some(Self { first, others })
    }

    /// Whether one range was asked for.
    pub(in crate::gateway) fn is_one(&self) -> bool {
        self.others.is_empty()
    }

    /// The bytes that are meant, of `size`. Ranges that overlap or touch become one, so that no
    /// byte comes twice.
    pub(in crate::gateway) fn within(&self, size: u64) -> Satisfied {
        if self.others.is_empty() {
            return self.first.within(size).map_or(Satisfied::Unsatisfiable, Satisfied::Part);
        }
        let mut parts: Vec<Range<u64>> = Vec::with_capacity(1 + self.others.len());
        for range in [self.first].iter().chain(&self.others) {
            let Some(mut part) = range.within(size) else { continue };
            let mut place = parts.len();
            let meets = |other: &Range<u64>, part: &Range<u64>| {
                other.start <= part.end && part.start <= other.end
            };
            while let Some(at) = parts.iter().position(|other| meets(other, &part)) {
                let other = parts.remove(at);
                part = part.start.min(other.start)..part.end.max(other.end);
                place = place.min(at).min(parts.len());
            }
            parts.insert(place, part);
        }
        match parts.pop() {
            None => Satisfied::Unsatisfiable,
            Some(only) if parts.is_empty() => Satisfied::Part(only),
            Some(last) => {
                parts.push(last);
                Satisfied::Parts(parts)
            }
        }
    }
}

impl ByteRange {
    fn parse(range: &str) -> Option<Self> {
        let (from, to) = range.split_once('-')?;
        if from.is_empty() {
            return Some(Self::Last(number(to)?));
        }
        let from = number(from)?;
        let to = if to.is_empty() { None } else { Some(number(to)?) };
        to.is_none_or(|to| from <= to).then_some(Self::From(from, to))
    }

    /// Its bytes, of `size`; `None` where there are none.
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(from, to) => from..to.map_or(size, |to| to.saturating_add(1).min(size)),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// Digits only. What no file can be as large as is as good as the largest number.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn satisfied(text: &str, size: u64) -> Option<Satisfied> {
        Ranges::parse(&HeaderValue::from_str(text).unwrap()).map(|ranges| ranges.within(size))
    }

    #[test]
    fn ranges_are_read_or_ignored() {
        let check = |text: &str, size, want: Satisfied| {
            assert_eq!(satisfied(text, size), Some(want), "{text}");
        };
        check("bytes=0-", 10, Satisfied::Part(0..10));
        check("Bytes=2-3", 10, Satisfied::Part(2..4));
        check("bytes=2-99", 10, Satisfied::Part(2..10));
        check("bytes=-3", 10, Satisfied::Part(7..10));
        check("bytes=-99", 10, Satisfied::Part(0..10));
        check("bytes=0-0", 0, Satisfied::Unsatisfiable);
        check("bytes=-0", 10, Satisfied::Unsatisfiable);
        check("bytes=10-", 10, Satisfied::Unsatisfiable);
        check("bytes=99999999999999999999999-", 10, Satisfied::Unsatisfiable);
        check("bytes=0-18446744073709551615", 10, Satisfied::Part(0..10));
        let ignored = ["bytes=3-2", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=+1-2"];
        for ignored in ignored.into_iter().chain(["bytes=0-0,x", "bytes", "bytes=0-1,3-2"]) {
            assert_eq!(satisfied(ignored, 10), None, "{ignored}");
        }
    }

    #[test]
    fn several_ranges_are_kept_apart_or_become_one() {
        let check = |text: &str, want: Satisfied| {
            assert_eq!(satisfied(text, 100), Some(want), "{text}");
        };
        check("bytes=0-0, 2-2", Satisfied::Parts(vec![0..1, 2..3]));
        check("bytes=90-,0-0", Satisfied::Parts(vec![90..100, 0..1]));
        check("bytes=0-1,2-3", Satisfied::Part(0..4));
        check("bytes=0-,0-,-1", Satisfied::Part(0..100));
        check("bytes=0-9,20-29,5-24", Satisfied::Part(0..30));
        check("bytes=0-0,50-59,55-69,-1", Satisfied::Parts(vec![0..1, 50..70, 99..100]));
        check("bytes=200-,5-5", Satisfied::Part(5..6));
        check("bytes=200-,300-", Satisfied::Unsatisfiable);
        check(&format!("bytes={}", vec!["0-0"; 1000].join(",")), Satisfied::Part(0..1));
        check("bytes=1-1,3-3,5-5,7-7,9-9,11-11,13-13,15-15,17-17", Satisfied::Part(1..2));
    }

    proptest! {
        #[test]
        fn parts_hold_what_was_asked_for_and_each_byte_once(
            asked in prop::collection::vec((0_u64..300, 0_u64..60), 1..8), size in 0_u64..256,
        ) {
            let list: Vec<_> = asked.iter().map(|(at, more)| format!("{at}-{}", at + more)).collect();
            let parts = match satisfied(&format!("bytes={}", list.join(",")), size).unwrap() {
                Satisfied::Unsatisfiable => Vec::new(),
                Satisfied::Part(part) => vec![part],
                Satisfied::Parts(parts) => parts,
            };
            for byte in 0..size {
                let wanted = asked.iter().any(|(at, more)| (*at..=at + more).contains(&byte));
                let held = parts.iter().filter(|part| part.contains(&byte)).count();
                prop_assert_eq!(held, usize::from(wanted));
            }
            prop_assert!(parts.iter().all(|part| !part.is_empty() && part.end <= size));
        }
    }
}
