//! The headers of a TAR: `ustar`, and before it an extended header (`pax`) for what does not fit
//! into one (POSIX.1-2017, pax Interchange Format). Pure.

use std::fmt::Write;

use crate::ipld::unixfs::{Metadata, Mtime};

/// The unit in which a TAR is written.
pub(super) const BLOCK_BYTES: usize = 512;
/// Longest name in a `ustar` header, without its prefix.
const NAME_BYTES: usize = 100;
/// Largest size in a `ustar` header.
const SIZE_MAX: u64 = 0o777_7777_7777;
/// Permission bits that are passed on. Not those that let whoever runs a file act as its owner:
/// they were meant for another machine.
const MODE_MASK: u32 = 0o777;

/// What stands in a TAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    File { size: u64 },
    Directory,
    Link { target: &'a [u8] },
}

/// Writes the header of one entry, a whole number of blocks. What its node does not say has the
/// same value always, so that the bytes follow from the CID.
pub(super) fn write(out: &mut Vec<u8>, name: &[u8], entry: &Entry<'_>, metadata: Metadata) {
    let (size, target, flag, usual_mode) = match entry {
        Entry::File { size } => (*size, &b""[..], b'0', 0o644),
        Entry::Directory => (0, &b""[..], b'5', 0o755),
        Entry::Link { target } => (0, *target, b'2', 0o777),
    };
    let mtime = metadata.mtime.unwrap_or(Mtime { seconds: 0, nanos: 0 });
    let mut records = Vec::new();
    if !fits(name) {
        record(&mut records, "path", name);
    }
    if !fits(target) {
        record(&mut records, "linkpath", target);
    }
    if size > SIZE_MAX {
        record(&mut records, "size", size.to_string().as_bytes());
    }
    let plain_time = u64::try_from(mtime.seconds).ok().filter(|seconds| *seconds <= SIZE_MAX);
    if plain_time.is_none() || mtime.nanos > 0 {
        record(&mut records, "mtime", decimal(mtime).as_bytes());
    }
    if !records.is_empty() {
        if std::str::from_utf8(name).is_err() || std::str::from_utf8(target).is_err() {
            // Says that the texts that follow are bytes of no known character set.
            let mut charset = Vec::new();
            record(&mut charset, "hdrcharset", b"BINARY");
            records.splice(0..0, charset);
        }
        let fields = Fields { size: records.len() as u64, mode: 0o644, mtime: 0, flag: b'x' };
        out.extend_from_slice(&ustar(b"PaxHeaders/entry", b"", &fields));
        out.extend_from_slice(&records);
        pad(out, records.len() as u64);
    }
    let mode = metadata.mode.map_or(usual_mode, |mode| mode & MODE_MASK);
    let size = if size > SIZE_MAX { 0 } else { size };
    let fields = Fields { size, mode, mtime: plain_time.unwrap_or(0), flag };
    out.extend_from_slice(&ustar(name, target, &fields));
}

/// Fills the block up in which `size` bytes end.
pub(super) fn pad(out: &mut Vec<u8>, size: u64) {
    let over = (size % BLOCK_BYTES as u64) as usize;
    if over > 0 {
        out.resize(out.len() + BLOCK_BYTES - over, 0);
    }
}

/// The end of a TAR.
pub(super) fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
}

/// Whether a text can stand in a field of the plain header, where it is ASCII only.
fn fits(text: &[u8]) -> bool {
    text.len() <= NAME_BYTES && text.iter().all(|byte| (0x20..0x7f).contains(byte))
}

/// `{length} {key}={value}\n`, the length counting itself.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A time as a decimal number, its fraction counting away from zero as its sign says.
fn decimal(Mtime { seconds, nanos }: Mtime) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (whole, fraction) =
        (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    let mut text = String::from(if total < 0 { "-" } else { "" });
    let _ = write!(text, "{whole}");
    if fraction > 0 {
        let _ = write!(text, ".{fraction:09}");
    }
    text
}

struct Fields {
    size: u64,
    mode: u32,
    mtime: u64,
    flag: u8,
}

fn ustar(name: &[u8], target: &[u8], fields: &Fields) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, text: &[u8], room: usize| {
        let text = text.get(..room.min(text.len())).unwrap_or_default();
        if let Some(field) = block.get_mut(at..at + text.len()) {
            field.copy_from_slice(text);
        }
    };
    // Where the name stands in the extended header, this one is for programs that do not know it.
    let ascii = |text: &[u8]| -> Vec<u8> {
        text.iter().map(|byte| if (0x20..0x7f).contains(byte) { *byte } else { b'_' }).collect()
    };
    put(0, &ascii(name), NAME_BYTES);
    put(100, format!("{:07o}", fields.mode).as_bytes(), 7);
    put(108, b"0000000", 7);
    put(116, b"0000000", 7);
    put(124, format!("{:011o}", fields.size).as_bytes(), 11);
    put(136, format!("{:011o}", fields.mtime).as_bytes(), 11);
    put(148, b"        ", 8);
    put(156, &[fields.flag], 1);
    put(157, &ascii(target), NAME_BYTES);
    put(257, b"ustar\x0000", 8);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(field) = block.get_mut(148..156) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &[u8], entry: &Entry<'_>, metadata: Metadata) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, name, entry, metadata);
        assert_eq!(out.len() % BLOCK_BYTES, 0);
        out
    }

    #[test]
    fn what_fits_is_one_block_and_what_does_not_is_extended() {
        let plain = written(b"a/b", &Entry::File { size: 10 }, Metadata::default());
        assert_eq!(plain.len(), BLOCK_BYTES);
        assert_eq!(&plain[..4], b"a/b\0");
        assert_eq!(&plain[124..135], b"00000000012");
        let sum: u32 = plain.iter().map(|byte| u32::from(*byte)).sum();
        let told = std::str::from_utf8(&plain[148..154]).unwrap();
        let of_field: u32 = plain[148..156].iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(u32::from_str_radix(told, 8).unwrap(), sum - of_field + 8 * 32);

        let long = "x".repeat(300);
        let has = |out: &[u8], text: &str| {
            assert!(String::from_utf8_lossy(out).contains(text), "{text}");
        };
        has(
            &written(long.as_bytes(), &Entry::Directory, Metadata::default()),
            &format!("310 path={long}\n"),
        );
        has(&written("ź".as_bytes(), &Entry::Directory, Metadata::default()), "11 path=ź\n");
        has(&written(b"\xff", &Entry::Directory, Metadata::default()), "21 hdrcharset=BINARY\n");
        has(
            &written(b"a", &Entry::Link { target: long.as_bytes() }, Metadata::default()),
            "linkpath=xxx",
        );
        has(
            &written(b"a", &Entry::File { size: 1 << 33 }, Metadata::default()),
            "19 size=8589934592\n",
        );
        let mtime = |seconds, nanos| Metadata {
            mode: Some(0o104_755),
            mtime: Some(Mtime { seconds, nanos }),
        };
        has(&written(b"a", &Entry::Directory, mtime(-2, 500_000_000)), "mtime=-1.500000000\n");
        has(&written(b"a", &Entry::Directory, mtime(-2, 0)), " mtime=-2\n");
        let kept = written(b"a", &Entry::Directory, mtime(8, 0));
        assert_eq!((&kept[100..107], &kept[136..147]), (&b"0000755"[..], &b"00000000010"[..]));
    }

    #[test]
    fn a_record_counts_its_own_length_at_every_length() {
        for length in 0..1100 {
            let mut out = Vec::new();
            record(&mut out, "path", &vec![b'x'; length]);
            let text = std::str::from_utf8(&out).unwrap();
            assert_eq!(text.split(' ').next().unwrap(), out.len().to_string());
        }
    }
}
