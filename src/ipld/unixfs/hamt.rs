//! Sharded directories: a trie over the bits of the names' hashes (UnixFS specification, HAMT).

mod murmur3;

use bytes::Bytes;

use super::format::Data;
use super::malformed;
use crate::ipld::Error;
use crate::ipld::dag_pb::Links;

pub use murmur3::murmur3_x64_64;

/// The multihash code of murmur3-x64-64, the only function in use.
pub const HASH_TYPE: u64 = 0x22;
/// Widest shard we read.
pub const FANOUT_MAX: u64 = 1024;
/// Bits of a name's hash: where they end, no shard may go deeper.
pub const HASH_BITS: u32 = 64;

/// One shard: up to `fanout` links, each to an entry or to a shard one level below.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Slots of the shard.
    pub fanout: u32,
    /// Which slots are taken: the last byte holds slots 0 to 7, its lowest bit slot 0.
    pub bitfield: Bytes,
    /// The links of the taken slots, in the slots' order, each name with the slot before it.
    pub links: Links,
}

/// What a slot of a shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its number within the shard.
    pub(crate) number: u32,
    /// Its link's place among the shard's links.
    pub(crate) position: usize,
}

impl Shard {
    pub(super) fn new(data: &Data, links: Links) -> Result<Self, Error> {
        if data.hash_type != Some(HASH_TYPE) {
            return Err(malformed("the shard's hash function is not murmur3-x64-64"));
        }
        let fanout = data
            .fanout
            .filter(|f| f.is_power_of_two() && f % 8 == 0 && *f <= FANOUT_MAX)
            .and_then(|f| u32::try_from(f).ok())
            .ok_or(malformed("the shard's fanout is not a power of two from 8 to 1024"))?;
        let bitfield = data.data.clone().unwrap_or_default();
        if bitfield.len() * 8 > fanout as usize {
            return Err(malformed("the shard's bitfield is wider than its fanout"));
        }
        let shard = Self { fanout, bitfield, links };
        shard.check_links()?;
        Ok(shard)
    }

    /// Each taken slot has one link, and each link's name begins with its slot.
    fn check_links(&self) -> Result<(), Error> {
        let taken: u32 = self.bitfield.iter().map(|byte| byte.count_ones()).sum();
        if taken as usize != self.links.len() {
            return Err(malformed("the shard has not as many links as taken slots"));
        }
        let mut links = self.links.iter();
        for slot in self.slots() {
            let name = links.next_name().unwrap_or_default();
            if !starts_with_slot(&name, slot.number, self.prefix_len()) {
                return Err(malformed("a link of the shard stands in another slot than it says"));
            }
        }
        Ok(())
    }

    /// The taken slots, in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.fanout)
            .filter(|number| self.is_taken(*number))
            .enumerate()
            .map(|(position, number)| Slot { number, position })
    }

    /// The slot of a number, if it is taken.
    pub(crate) fn slot(&self, number: u32) -> Option<Slot> {
        self.is_taken(number).then(|| Slot {
            number,
            position: (0..number).filter(|below| self.is_taken(*below)).count(),
        })
    }

    fn is_taken(&self, slot: u32) -> bool {
        let from_end = (slot / 8) as usize + 1;
        let byte = self.bitfield.len().checked_sub(from_end).and_then(|i| self.bitfield.get(i));
        byte.is_some_and(|byte| byte >> (slot % 8) & 1 == 1)
    }

    /// Bits of the hash that choose a slot.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.fanout.trailing_zeros()
    }

    /// Characters that stand for the slot before each link's name.
    #[must_use]
    pub fn prefix_len(&self) -> usize {
        prefix_len(self.fanout)
    }
}

fn prefix_len(fanout: u32) -> usize {
    fanout.trailing_zeros().div_ceil(4) as usize
}

/// The slot as it stands before a name: upper-case hexadecimal, as wide as the last slot's.
pub(crate) fn prefix(slot: u32, fanout: u32) -> String {
    format!("{slot:0width$X}", width = prefix_len(fanout))
}

/// Whether a name begins with its slot, as [`prefix`] writes it in `len` digits.
fn starts_with_slot(name: &[u8], slot: u32, len: usize) -> bool {
    let digit = |at: usize| b"0123456789ABCDEF"[(slot >> (4 * (len - 1 - at)) & 15) as usize];
    name.len() >= len && (0..len).all(|at| name[at] == digit(at))
}

/// The slot that a hash chooses after `consumed` bits in a shard of `bits`; `None` where the hash
/// has no more bits.
pub(crate) fn slot_of(hash: u64, consumed: u32, bits: u32) -> Option<u32> {
    let end = consumed.checked_add(bits).filter(|end| *end <= HASH_BITS)?;
    let mask = (1u64 << bits).wrapping_sub(1);
    u32::try_from(hash >> (HASH_BITS - end) & mask).ok()
}
