//! MurmurHash3, the x64 variant of 128 bits, of which sharded directories use the first 64.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The first half of murmur3-x64-128 with seed 0. Directories consume it from its highest bit.
#[must_use]
pub fn murmur3_x64_64(bytes: &[u8]) -> u64 {
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        let (k1, k2) = words(chunk);
        h1 = (h1 ^ mix1(k1)).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(k2)).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (k1, k2) = words(chunks.remainder());
    h1 ^= mix1(k1);
    h2 ^= mix2(k2);

    let length = bytes.len() as u64;
    h1 ^= length;
    h2 ^= length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    avalanche(h1).wrapping_add(avalanche(h2))
}

/// Up to 16 bytes as two little-endian words; what is missing is zero, which mixes to zero.
fn words(bytes: &[u8]) -> (u64, u64) {
    let word = |bytes: &mut dyn Iterator<Item = &u8>| {
        bytes.enumerate().fold(0, |word, (i, byte)| word | u64::from(*byte) << (8 * i))
    };
    (word(&mut bytes.iter().take(8)), word(&mut bytes.iter().skip(8).take(8)))
}

fn mix1(k1: u64) -> u64 {
    k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k2: u64) -> u64 {
    k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn avalanche(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_other_implementations() {
        for (name, hash) in [
            ("", 0),
            ("a", 0x8555_5565_f659_7889),
            ("file.txt", 0xb538_75c8_3534_fe3e),
            ("0123456789abcde", 0xa62d_d5f6_c0bf_2351),
            ("0123456789abcdef", 0x4be0_6d94_cf4a_d1a7),
            ("a name that is longer than two blocks of it", 0x0fb8_537e_2b9a_703e),
        ] {
            assert_eq!(murmur3_x64_64(name.as_bytes()), hash, "{name}");
        }
    }
}
