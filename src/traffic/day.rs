//! What was counted in one day. Pure.

use std::collections::HashMap;

use crate::block::Cid;

use super::Bytes;

/// Roots that have a count of their own where there is no more room: half of [`ROOTS_HELD_MAX`].
const ROOTS_MAX: usize = 256;
/// Roots that are counted apart, until those with the fewest bytes are counted together.
const ROOTS_HELD_MAX: usize = 2 * ROOTS_MAX;
/// The form of a row.
const FORM: u8 = 1;
/// Bytes of a count in a row.
const COUNT_BYTES: usize = 32;

/// Bytes by root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Day {
    roots: HashMap<Cid, Bytes>,
    /// Of roots that are not counted apart, and of none.
    rest: Bytes,
}

impl Day {
    /// The count of a root. Where there are too many, those with the fewest bytes lose theirs.
    pub(super) fn of(&mut self, root: &Cid) -> &mut Bytes {
        if self.roots.len() >= ROOTS_HELD_MAX && !self.roots.contains_key(root) {
            self.fold();
        }
        self.roots.entry(*root).or_default()
    }

    fn fold(&mut self) {
        let mut sums: Vec<_> = self.roots.values().map(|bytes| bytes.sum()).collect();
        let place = sums.len().saturating_sub(ROOTS_MAX);
        let (_, least, _) = sums.select_nth_unstable(place);
        let least = *least;
        // Of those that are alike at the bound, as many stay as there is room beside the others.
        let above = sums.iter().filter(|sum| **sum > least).count();
        let (rest, mut room) = (&mut self.rest, ROOTS_MAX.saturating_sub(above));
        self.roots.retain(|_, bytes| {
            let sum = bytes.sum();
            let stays = sum > least || (sum == least && room > 0);
            match stays {
                true if sum == least => room -= 1,
                true => {}
                false => rest.add(*bytes),
            }
            stays
        });
    }

    pub(super) fn add(&mut self, root: &Cid, bytes: Bytes) {
        self.of(root).add(bytes);
    }

    pub(super) fn add_rest(&mut self, bytes: Bytes) {
        self.rest.add(bytes);
    }

    /// Adds what another counted; as many roots as it takes have a count of their own.
    pub(super) fn add_day(&mut self, other: &Self) {
        for (root, bytes) in &other.roots {
            self.roots.entry(*root).or_default().add(*bytes);
        }
        self.rest.add(other.rest);
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = (&Cid, &Bytes)> {
        self.roots.iter()
    }

    pub(super) fn rest(&self) -> Bytes {
        self.rest
    }

    pub(super) fn total(&self) -> Bytes {
        let mut total = self.rest;
        self.roots.values().for_each(|bytes| total.add(*bytes));
        total
    }

    /// The roots with the most bytes, those first.
    pub(super) fn top(&self, limit: usize) -> Vec<(Cid, Bytes)> {
        let mut roots: Vec<_> = self.roots.iter().map(|(root, bytes)| (*root, *bytes)).collect();
        roots.sort_by_key(|(root, bytes)| (std::cmp::Reverse(bytes.sum()), *root));
        roots.truncate(limit);
        roots
    }

    /// It as a row: the form, the rest, and each root behind the length of its CID.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut row = vec![FORM];
        put(&mut row, self.rest);
        for (root, bytes) in &self.roots {
            let cid = root.to_bytes();
            // A CID has 145 bytes at most.
            row.push(u8::try_from(cid.len()).unwrap_or(u8::MAX));
            row.extend_from_slice(&cid);
            put(&mut row, *bytes);
        }
        row
    }

    /// What a row says, as far as it can be read.
    pub(super) fn from_bytes(row: &[u8]) -> Self {
        let mut day = Self::default();
        let Some((&FORM, mut row)) = row.split_first() else { return day };
        let Some(rest) = take(&mut row) else { return day };
        day.rest = rest;
        while let Some((&length, behind)) = row.split_first() {
            let Some((cid, behind)) = behind.split_at_checked(length.into()) else { break };
            row = behind;
            let (Ok(cid), Some(bytes)) = (Cid::try_from(cid), take(&mut row)) else { break };
            day.roots.entry(cid).or_default().add(bytes);
        }
        day
    }
}

fn put(row: &mut Vec<u8>, bytes: Bytes) {
    let Bytes { http_out, bitswap_out, bitswap_in, http_in } = bytes;
    for number in [http_out, bitswap_out, bitswap_in, http_in] {
        row.extend_from_slice(&number.to_be_bytes());
    }
}

fn take(row: &mut &[u8]) -> Option<Bytes> {
    let (count, behind) = row.split_first_chunk::<COUNT_BYTES>()?;
    *row = behind;
    let mut numbers = count
        .chunks_exact(8)
        .map(|number| number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    Some(Bytes {
        http_out: numbers.next()?,
        bitswap_out: numbers.next()?,
        bitswap_in: numbers.next()?,
        http_in: numbers.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, codec};

    fn root(number: u32) -> Cid {
        let data = number.to_be_bytes().to_vec();
        *Block::sha2_256(codec::RAW, data.into()).unwrap().cid()
    }

    #[test]
    fn memory_is_bounded_and_no_byte_is_lost() {
        let mut day = Day::default();
        for number in 0..20_000 {
            // A few large ones among many small ones, and all alike at last.
            let bytes = if number % 1000 == 7 { 1_000_000 } else { 1 };
            day.of(&root(number)).http_out += bytes;
            assert!(day.roots.len() <= ROOTS_HELD_MAX);
        }
        assert_eq!(day.total().http_out, 20 * 1_000_000 + 20_000 - 20);
        let top: Vec<_> = day.top(20).into_iter().map(|(_, bytes)| bytes.http_out).collect();
        assert_eq!(top, [1_000_000; 20]);
    }

    #[test]
    fn a_row_is_read_as_it_was_written_or_as_far_as_it_goes() {
        let mut day = Day::default();
        day.add_rest(Bytes { http_out: 1, bitswap_out: 2, bitswap_in: 3, http_in: u64::MAX });
        for number in 0..100 {
            day.of(&root(number)).http_in = number.into();
        }
        let row = day.to_bytes();
        assert_eq!(Day::from_bytes(&row), day);
        for end in 0..row.len() {
            assert!(Day::from_bytes(&row[..end]).roots.len() <= 100);
        }
        assert_eq!(Day::from_bytes(b"\x09junk"), Day::default());
    }
}
