//! Where keys and peers stand in the space of the DHT: at the SHA-256 of their bytes, and near to each
//! other where the first bits are alike.

use libp2p::PeerId;

/// A place in the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position([u8; 32]);

/// How far two places are apart: the XOR of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; 32]);

impl Position {
    /// Where a key stands: a multihash, or the name of a record.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, key).as_ref());
        Self(bytes)
    }

    /// Where a peer stands.
    #[must_use]
    pub fn of_peer(peer: &PeerId) -> Self {
        Self::of(&peer.to_bytes())
    }

    /// The place with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes; their order is the order along the space.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How far another is.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut bytes = self.0;
        bytes.iter_mut().zip(other.0).for_each(|(byte, other)| *byte ^= other);
        Distance(bytes)
    }

    /// How many first bits both have alike.
    #[must_use]
    pub fn common_bits(&self, other: &Self) -> u32 {
        self.distance(other).leading_zeros()
    }
}

impl Distance {
    fn leading_zeros(&self) -> u32 {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        let next = self.0.get(zeros).map_or(0, |byte| byte.leading_zeros());
        u32::try_from(zeros).unwrap_or(0) * 8 + next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_places_have_more_bits_alike() {
        let at = |first: u8, last: u8| {
            let mut bytes = [0; 32];
            (bytes[0], bytes[31]) = (first, last);
            Position::from_bytes(bytes)
        };
        assert_eq!(at(0, 0).common_bits(&at(0x80, 0)), 0);
        assert_eq!(at(0, 0).common_bits(&at(0x01, 0)), 7);
        assert_eq!(at(0, 0).common_bits(&at(0, 1)), 255);
        assert_eq!(at(1, 1).common_bits(&at(1, 1)), 256);
        assert!(at(0, 0).distance(&at(0, 9)) < at(0, 0).distance(&at(1, 0)));
    }
}
