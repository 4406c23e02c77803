//! Crash images: what a disk may hold after the power went, made from a log of what was written
//! and synced. Several rooms may record their files in one log, in one order.
//!
//! The disk is a mean one: until a file is synced, each of its writes may be there, be lost, or be
//! there in some of its sectors only, whatever came before or after it; and a new file, or the
//! removal of one, may be lost until its directory is synced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::db::Disk;

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: u64 = 512;

/// A log of writes and syncs. Cheap to clone; clones share the log.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    /// Files as they were, durably, when recording began.
    start: BTreeMap<Arc<str>, Vec<u8>>,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
enum Event {
    Write {
        file: Arc<str>,
        offset: u64,
        data: Vec<u8>,
    },
    SetLen {
        file: Arc<str>,
        len: u64,
    },
    Create {
        file: Arc<str>,
    },
    Remove {
        file: Arc<str>,
    },
    /// What was done to the file by the first `covers` events is durable.
    Sync {
        file: Arc<str>,
        covers: usize,
    },
    /// Creations and removals among the first `covers` events are durable.
    SyncDir {
        covers: usize,
    },
    Mark(u64),
}

/// What is on the disk after a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Each file's bytes, by the name it was recorded under.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What was marked before the crash: what the test knows to be acknowledged.
    pub marks: Vec<u64>,
}

impl Recorder {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) {
        self.log().events.push(event);
    }

    /// How many events there are: an image can be made after each.
    #[must_use]
    pub fn events(&self) -> usize {
        self.log().events.len()
    }

    /// A file that is there, durably, with these bytes, before anything is recorded of it.
    pub fn begin(&self, file: &str, bytes: Vec<u8>) {
        self.log().start.insert(file.into(), bytes);
    }

    /// A write; record it before it is made.
    pub fn wrote(&self, file: &str, offset: u64, data: &[u8]) {
        self.push(Event::Write { file: file.into(), offset, data: data.to_vec() });
    }

    /// A change of length; record it before it is made.
    pub fn resized(&self, file: &str, len: u64) {
        self.push(Event::SetLen { file: file.into(), len });
    }

    /// A new, empty file; record it before it is made.
    pub fn created(&self, file: &str) {
        self.push(Event::Create { file: file.into() });
    }

    /// A removed file; record it before it is removed.
    pub fn removed(&self, file: &str) {
        self.push(Event::Remove { file: file.into() });
    }

    /// Runs a sync of a file and records it if it succeeds.
    pub fn sync(&self, file: &str, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // What is written while the sync runs may be left out of it.
        let covers = self.events();
        sync()?;
        self.push(Event::Sync { file: file.into(), covers });
        Ok(())
    }

    /// Runs a sync of the directory of all files and records it if it succeeds.
    pub fn sync_dir(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let covers = self.events();
        sync()?;
        self.push(Event::SyncDir { covers });
        Ok(())
    }

    /// Notes that something was acknowledged.
    pub fn mark(&self, mark: u64) {
        self.push(Event::Mark(mark));
    }

    /// A disk that records, under this name, what is done to `file`. What the file holds now is
    /// taken for durable.
    pub fn disk(&self, name: &str, file: File) -> Recorded {
        let mut bytes = vec![0; usize::try_from(file.size().unwrap_or(0)).unwrap_or(0)];
        if file.read_at(0, &mut bytes).is_ok() {
            self.begin(name, bytes);
        }
        Recorded { recorder: self.clone(), name: name.into(), file }
    }

    /// The disk after a crash behind the first `events` events. The same seed makes the same image.
    #[must_use]
    pub fn image(&self, events: usize, seed: u64) -> Image {
        let log = self.log();
        let seen = log.events.get(..events).unwrap_or(&log.events);
        let mut synced: BTreeMap<&str, usize> = BTreeMap::new();
        let mut dir_synced = 0;
        for event in seen {
            match event {
                Event::Sync { file, covers } => {
                    let held = synced.entry(file).or_default();
                    *held = (*held).max(*covers);
                }
                Event::SyncDir { covers } => dir_synced = dir_synced.max(*covers),
                _ => {}
            }
        }
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // How much is lost: nothing, all, or something between.
        let lost = dice.below(9);
        let mut marks = Vec::new();
        let mut files: BTreeMap<Arc<str>, Vec<u8>> = log.start.clone();
        // Bytes of files whose entry was lost, or was not removed after all.
        for (at, event) in seen.iter().enumerate() {
            let durable = |file: &str| synced.get(file).is_some_and(|covers| at < *covers);
            match event {
                Event::Write { file, offset, data } => {
                    let Some(bytes) = files.get_mut(file) else { continue };
                    if durable(file) {
                        write(bytes, *offset, data);
                    } else {
                        write_some(bytes, *offset, data, lost, &mut dice);
                    }
                }
                Event::SetLen { file, len } => {
                    let Some(bytes) = files.get_mut(file) else { continue };
                    if durable(file) || !dice.loses(lost) {
                        bytes.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0);
                    }
                }
                Event::Create { file } => {
                    if at < dir_synced || !dice.loses(lost) {
                        files.insert(Arc::clone(file), Vec::new());
                    }
                }
                Event::Remove { file } => {
                    if at < dir_synced || !dice.loses(lost) {
                        files.remove(file);
                    }
                }
                Event::Mark(mark) => marks.push(*mark),
                Event::Sync { .. } | Event::SyncDir { .. } => {}
            }
        }
        let files = files.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect();
        Image { files, marks }
    }
}

impl Image {
    /// Writes the files into a directory.
    pub fn write_to(&self, dir: &Path) -> io::Result<()> {
        self.files.iter().try_for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes))
    }
}

/// A write that was not synced: lost, whole, or some of its sectors.
fn write_some(bytes: &mut Vec<u8>, offset: u64, data: &[u8], lost: u64, dice: &mut Dice) {
    match dice.below(3) {
        0 => {
            let mut at = 0;
            while at < data.len() {
                let from = offset + at as u64;
                let sector = usize::try_from(SECTOR_BYTES - from % SECTOR_BYTES).unwrap_or(1);
                let end = (at + sector).min(data.len());
                if !dice.loses(lost) {
                    write(bytes, from, data.get(at..end).unwrap_or_default());
                }
                at = end;
            }
        }
        _ if dice.loses(lost) => {}
        _ => write(bytes, offset, data),
    }
}

fn write(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let to = from.saturating_add(data.len());
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    if let Some(place) = bytes.get_mut(from..to) {
        place.copy_from_slice(data);
    }
}

/// Numbers from a seed (xorshift).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// Whether something is lost, with a chance of `lost` in eight.
    fn loses(&mut self, lost: u64) -> bool {
        self.below(8) < lost
    }
}

/// A file whose writes are recorded.
#[derive(Debug)]
pub struct Recorded {
    recorder: Recorder,
    name: Arc<str>,
    file: File,
}

impl Disk for Recorded {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.recorder.wrote(&self.name, offset, data);
        self.file.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.recorder.resized(&self.name, len);
        Disk::set_len(&self.file, len)
    }

    fn sync(&self) -> io::Result<()> {
        // The kernel's own copy is enough here: the images are made from the log.
        self.recorder.sync(&self.name, || Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_is_in_every_image() {
        let recorder = Recorder::new();
        recorder.begin("a", vec![0; 4096]);
        recorder.wrote("a", 0, &[1; 2000]);
        recorder.sync("a", || Ok(())).unwrap();
        recorder.mark(7);
        recorder.wrote("a", 100, &[2; 3000]);
        recorder.created("b");
        let (mut torn, mut whole, mut dropped, mut without_b) = (0, 0, 0, 0);
        for seed in 0..200 {
            let image = recorder.image(recorder.events(), seed);
            assert_eq!(image, recorder.image(recorder.events(), seed));
            assert_eq!(image.marks, [7]);
            let a = &image.files["a"];
            assert!(a[..100].iter().all(|byte| *byte == 1));
            match a[100..3100].iter().filter(|byte| **byte == 2).count() {
                0 => dropped += 1,
                3000 => whole += 1,
                _ => torn += 1,
            }
            without_b += usize::from(!image.files.contains_key("b"));
        }
        assert!([torn, whole, dropped, without_b].iter().all(|count| *count > 20));
    }
}
