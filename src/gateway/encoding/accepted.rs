//! `Accept-Encoding`. Pure.

use http::{HeaderMap, header};

use super::Coding;

/// Codings in one header that are looked at.
const CODINGS_MAX: usize = 32;

/// The coding that suits a client best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The one it likes most; where it likes several equally, the one that costs least. None where
    /// it would rather have the content as it is.
    pub(super) coding: Option<Coding>,
    /// Whether it takes the content as it is.
    pub(super) identity: bool,
}

impl Accepted {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut weights = Weights::default();
        let mut values = headers.get_all(header::ACCEPT_ENCODING).iter().peekable();
        if values.peek().is_none() {
            return Self { coding: None, identity: true };
        }
        let parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        for part in parts.take(CODINGS_MAX) {
            weights.note(part);
        }
        weights.decide()
    }
}

/// What was said of each, in thousandths.
#[derive(Debug, Default)]
struct Weights {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    others: Option<u16>,
}

impl Weights {
    fn note(&mut self, part: &[u8]) {
        let mut words = part.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = words.next().unwrap_or_default();
        let weight = words.find_map(|word| match word {
            [b'q' | b'Q', b'=', weight @ ..] => Some(thousandths(weight)),
            _ => None,
        });
        // A weight that cannot be read is taken for none at all.
        let Some(weight) = weight.unwrap_or(Some(1000)) else { return };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let slot = if is("identity") {
            &mut self.identity
        } else if is("*") {
            &mut self.others
        } else {
            let name = if is("x-gzip") { &b"gzip"[..] } else { name };
            let is = |coding: &Coding| name.eq_ignore_ascii_case(coding.name().as_bytes());
            let found = Coding::ALL.iter().position(is);
            let Some(slot) = found.and_then(|place| self.codings.get_mut(place)) else { return };
            slot
        };
        slot.get_or_insert(weight);
    }

    fn decide(&self) -> Accepted {
        let mut best: Option<(u16, Coding)> = None;
        for (coding, said) in Coding::ALL.into_iter().zip(self.codings) {
            let weight = said.or(self.others).unwrap_or(0);
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, coding));
            }
        }
        // Not named, it is the last resort.
        let identity = self.identity.or(self.others.filter(|weight| *weight == 0));
        let preferred = self.identity.unwrap_or(0);
        let coding = best.filter(|(weight, _)| *weight >= preferred).map(|(_, coding)| coding);
        Accepted { coding, identity: identity != Some(0) }
    }
}

/// `0.5` is 500 (RFC 9110 section 12.4.2).
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, rest) = weight.split_first()?;
    let decimals = match rest {
        [] => &[][..],
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        _ => return None,
    };
    let mut value = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, place) in decimals.iter().zip([100, 10, 1]) {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value += u16::from(digit) * place;
    }
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], coding: Option<Coding>, identity: bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_ENCODING, line.parse().unwrap());
        }
        assert_eq!(Accepted::read(&headers), Accepted { coding, identity }, "{lines:?}");
    }

    #[test]
    fn weights_decide_and_the_cheapest_among_equals() {
        use Coding::{Brotli, Gzip, Zstd};
        check(&[], None, true);
        check(&[""], None, true);
        check(&["gzip"], Some(Gzip), true);
        check(&["X-GZip"], Some(Gzip), true);
        check(&["gzip, deflate, br, zstd"], Some(Zstd), true);
        check(&["gzip, deflate", "br"], Some(Brotli), true);
        check(&["gzip;q=1.0, br;q=0.9, *;q=0"], Some(Gzip), false);
        check(&["br ; q=0.001 , gzip;q=0"], Some(Brotli), true);
        check(&["*"], Some(Zstd), true);
        check(&["*;q=0.5, zstd;q=0"], Some(Brotli), true);
        check(&["compress, exi"], None, true);
    }

    #[test]
    fn the_content_as_it_is_can_be_preferred_or_refused() {
        use Coding::Gzip;
        check(&["identity"], None, true);
        check(&["identity, gzip"], Some(Gzip), true);
        check(&["identity;q=1, gzip;q=0.5"], None, true);
        check(&["identity;q=0.5, gzip;q=1"], Some(Gzip), true);
        check(&["identity;q=0, gzip;q=0.1"], Some(Gzip), false);
        check(&["identity;q=0"], None, false);
        check(&["*;q=0"], None, false);
        check(&["*;q=0, identity;q=0.1"], None, true);
    }

    #[test]
    fn weights_that_cannot_be_read_count_for_nothing() {
        for bad in ["2", "1.1", "0.1234", "0,5", "-1", "", ".5", "1.001", "a", "0.x"] {
            check(&[&format!("gzip;q={bad}")], None, true);
        }
        check(&["gzip;q=0.", "br;q=0"], None, true);
        check(&["gzip;q=1.000"], Some(Coding::Gzip), true);
        let many = format!("{}gzip", "x,".repeat(CODINGS_MAX));
        check(&[&many], None, true);
    }
}
