//! The protobuf wire format, as little of it as dag-pb, UnixFS and Bitswap need.
//!
//! A [`Fields`] walks the fields of one message without allocating; byte fields are given as
//! ranges of the message, so that the caller can cut slices that share its memory.

use std::ops::Range;

/// Bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// The field's number.
    pub(crate) number: u64,
    /// What it holds.
    pub(crate) value: Value,
    /// Where the whole field stands in the message, tag included.
    pub(crate) span: Range<usize>,
}

/// What a field holds, by wire type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64,
    /// Wire type 2: where the bytes stand in the message.
    Bytes(Range<usize>),
    /// Wire type 5.
    Fixed32(u32),
}

/// The message ends within a field, or a tag or varint is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The fields of a message, in the order they stand in it. Ends after the first malformed one.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    /// The fields from an offset on, which must be where a field starts.
    pub(crate) fn starting_at(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    fn field(&mut self) -> Option<Field> {
        let start = self.at;
        let tag = varint(self.message, &mut self.at)?;
        let number = tag >> 3;
        if number == 0 {
            return None;
        }
        let value = match tag & 7 {
            0 => Value::Varint(varint(self.message, &mut self.at)?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = usize::try_from(varint(self.message, &mut self.at)?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = self.message.get(self.take(4)?)?;
                Value::Fixed32(u32::from_le_bytes(bytes.try_into().ok()?))
            }
            _ => return None,
        };
        Some(Field { number, value, span: start..self.at })
    }

    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length)?;
        (end <= self.message.len()).then(|| {
            let start = std::mem::replace(&mut self.at, end);
            start..end
        })
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.message.len() {
            return None;
        }
        let field = self.field().ok_or(Malformed);
        if field.is_err() {
            self.at = self.message.len();
        }
        Some(field)
    }
}

/// Reads a varint at `at` and moves `at` behind it. `None` when it does not end or overflows.
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for i in 0..VARINT_BYTES_MAX {
        let byte = *bytes.get(at.checked_add(i)?)?;
        if i == VARINT_BYTES_MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *at += i + 1;
            return Some(value);
        }
    }
    None
}

/// Bytes that `value` takes as a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes that a byte field with a one-byte tag takes.
pub(crate) fn bytes_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field; `number` is below 16.
pub(crate) fn put_varint_field(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3);
    put_varint(out, value);
}

/// Appends a byte field; `number` is below 16.
pub(crate) fn put_bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    put_bytes_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the tag and length of a byte field whose bytes follow; `number` is below 16.
pub(crate) fn put_bytes_head(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push(number << 3 | 2);
    put_varint(out, length as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_go_there_and_back() {
        for value in [0, 1, 127, 128, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            let mut at = 0;
            assert_eq!(varint(&out, &mut at), Some(value));
            assert_eq!(at, out.len());
        }
        assert_eq!(varint(&[0xff; 10], &mut 0), None, "overflows");
        assert_eq!(varint(&[0x80], &mut 0), None, "does not end");
    }

    #[test]
    fn a_malformed_field_ends_the_message() {
        let mut fields = Fields::new(&[0x08, 1, 0x12, 9, 1]);
        assert!(matches!(fields.next(), Some(Ok(Field { number: 1, .. }))));
        assert_eq!(fields.next(), Some(Err(Malformed)));
        assert_eq!(fields.next(), None);
    }
}
