//! When a certificate ends (RFC 5280 section 4.1), which rustls does not tell. Pure.

use time::{Date, Month, PrimitiveDateTime, Time};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// `notAfter` of a certificate in DER, in seconds since 1970. None where it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (signed, _) = of_tag(SEQUENCE, certificate)?;
    let (mut fields, _) = of_tag(SEQUENCE, signed)?;
    if let Some((_, rest)) = of_tag(VERSION, fields) {
        fields = rest;
    }
    // The serial number, the algorithm, the issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = of_tag(tag, fields)?;
    }
    let (validity, _) = of_tag(SEQUENCE, fields)?;
    let (_, _, after) = element(validity)?;
    let (tag, text, _) = element(after)?;
    instant(tag, text)
}

/// The first element, its tag, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Of no length, or of a longer one than fits: not for certificates.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn of_tag(wanted: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, as RFC 5280 wants them.
fn instant(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<u16>().ok();
    let (year, at) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (number(0, 2)?, 2),
        (GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let year = match (tag, year) {
        (UTC_TIME, 50..) => 1900 + year,
        (UTC_TIME, _) => 2000 + year,
        _ => year,
    };
    let two = |place: usize| number(at + 2 * place, at + 2 * place + 2)?.try_into().ok();
    let month = Month::try_from(two(0)?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, two(1)?).ok()?;
    let time = Time::from_hms(two(2)?, two(3)?, two(4)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..0x80 => vec![tag, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content.to_vec()].concat()
    }

    fn certificate(version: bool, tag: u8, end: &[u8]) -> Vec<u8> {
        let begin = der(UTC_TIME, b"200101000000Z");
        let mut fields = if version { der(VERSION, &[2, 1, 2]) } else { Vec::new() };
        fields.extend(der(INTEGER, &[1]));
        fields.extend(der(SEQUENCE, &[]));
        fields.extend(der(SEQUENCE, &[0; 300]));
        fields.extend(der(SEQUENCE, &[begin, der(tag, end)].concat()));
        der(SEQUENCE, &der(SEQUENCE, &fields))
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let check = |version, tag, end: &[u8], expected| {
            assert_eq!(not_after(&certificate(version, tag, end)), expected);
        };
        check(true, UTC_TIME, b"700101000000Z", Some(0));
        check(false, UTC_TIME, b"491231235959Z", Some(2_524_607_999));
        check(true, GENERALIZED_TIME, b"20500101000000Z", Some(2_524_608_000));
        check(true, GENERALIZED_TIME, b"99991231235959Z", Some(253_402_300_799));
        for bad in [&b"700101000000"[..], b"701301000000Z", b"70010100000\xffZ", b"Z", b""] {
            check(true, UTC_TIME, bad, None);
        }
    }

    #[test]
    fn a_cut_certificate_has_no_end() {
        let whole = certificate(true, UTC_TIME, b"700101000000Z");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }
}
