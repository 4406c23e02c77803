//! Writes that no disk takes any more, kept so that the engine does not contradict itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::backend::Disk;

/// What is kept is kept in pieces of so many bytes.
const PIECE_BYTES: usize = 4096;

/// A layer over a disk that is only read. The engine stops soon after the failure, so there is at
/// most what its write buffer held: half of the cache.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    pieces: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl Limbo {
    fn pieces(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u8]>>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, disk: &dyn Disk, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut pieces = self.pieces();
        for (number, at, part) in parts(offset, data.len()) {
            let piece = match pieces.remove(&number) {
                Some(piece) => piece,
                None => below(disk, number)?,
            };
            let piece = pieces.entry(number).or_insert(piece);
            if let (Some(to), Some(from)) =
                (piece.get_mut(at..at + part.len()), data.get(part.clone()))
            {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    pub(super) fn read(&self, disk: &dyn Disk, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let pieces = self.pieces();
        for (number, at, part) in parts(offset, out.len()) {
            let Some(to) = out.get_mut(part.clone()) else { continue };
            let end = at + part.len();
            match pieces.get(&number) {
                Some(piece) => to.copy_from_slice(piece.get(at..end).unwrap_or_default()),
                None => {
                    to.copy_from_slice(below(disk, number)?.get(at..end).unwrap_or_default());
                }
            }
        }
        Ok(())
    }
}

/// The pieces that a range touches: number, offset in the piece, and the part of the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let from = offset + done as u64;
        let at = usize::try_from(from % PIECE_BYTES as u64).ok()?;
        let end = len.min(done + PIECE_BYTES - at);
        let part = done..end;
        done = end;
        (!part.is_empty()).then_some((from / PIECE_BYTES as u64, at, part))
    })
}

/// A piece of the disk; zeros behind its end, for the engine may have asked for more.
fn below(disk: &dyn Disk, number: u64) -> io::Result<Box<[u8]>> {
    let mut piece = vec![0; PIECE_BYTES];
    let offset = number * PIECE_BYTES as u64;
    let there = disk.size()?.saturating_sub(offset);
    let there = usize::try_from(there).map_or(PIECE_BYTES, |there| there.min(PIECE_BYTES));
    disk.read_at(offset, piece.get_mut(..there).unwrap_or_default())?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_the_disk_stays_as_it_was() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let disk = File::options().read(true).write(true).open(file.path()).unwrap();
        disk.write_at(0, &[1; 5000]).unwrap();
        let limbo = Limbo::default();
        limbo.write(&disk, 4000, &[2; 200]).unwrap();
        limbo.write(&disk, 4100, &[3; 9000]).unwrap();
        let mut wanted = vec![0; 20_000];
        wanted[..5000].fill(1);
        wanted[4000..4200].fill(2);
        wanted[4100..13_100].fill(3);
        for (offset, len) in [(0, 20_000), (3999, 3), (4099, 4000), (13_099, 2), (5, 0)] {
            let mut out = vec![9; len];
            limbo.read(&disk, offset, &mut out).unwrap();
            let from = usize::try_from(offset).unwrap();
            assert_eq!(out, wanted[from..from + len]);
        }
        assert_eq!(std::fs::read(file.path()).unwrap(), [1; 5000]);
    }
}
