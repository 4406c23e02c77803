//! The end of the log: whole records, one vectored write each batch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::block::StoreError;
use crate::blockstore::disk::store_error;
use crate::blockstore::record::{HEADER_BYTES, Header, KEY_BYTES_MAX, Key};

use super::{Appended, Location, Segments, Slot, Tail, gauge, make_room};

/// Free space is asked for again after so many appended bytes, or after [`SPACE_CHECK_EVERY`].
const SPACE_CHECK_BYTES: u64 = 16 << 20;
/// See [`SPACE_CHECK_BYTES`].
const SPACE_CHECK_EVERY: Duration = Duration::from_millis(100);

/// How much of the disk an append leaves free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::blockstore) enum Floor {
    /// What the configuration says.
    Writing,
    /// Half of it: compaction takes space to give more back.
    Compaction,
}

impl Segments {
    /// Appends records, all or none of them. Blocks. `floor` is what stays free on the disk.
    pub(in crate::blockstore) fn append(
        self: &Arc<Self>,
        records: &[(Key, Bytes)],
        floor: Floor,
    ) -> Result<(Vec<Location>, Appended), StoreError> {
        let heads: Vec<Head> = records.iter().map(|(key, data)| Head::new(key, data)).collect();
        let mut appended = Appended { segments: Arc::clone(self), marks: BTreeMap::new() };
        let mut locations = Vec::with_capacity(records.len());
        let mut tail = self.lock_tail();
        self.check()?;
        while locations.len() < records.len() {
            let from = locations.len();
            let (id, file, end) = self.active(&mut tail, heads[from].record_bytes)?;
            let mut to = from;
            let mut bytes = 0;
            while let Some(head) = heads.get(to)
                && (to == from || end + bytes + head.record_bytes <= self.sizes.segment_bytes_max)
            {
                locations.push(Location { segment: id, offset: end + bytes });
                bytes += head.record_bytes;
                to += 1;
            }
            self.check_space(&mut tail, bytes.into(), floor)?;
            let mut slices: Vec<IoSlice<'_>> = std::iter::zip(&heads[from..to], &records[from..to])
                .flat_map(|(head, (_, data))| [IoSlice::new(head.as_bytes()), IoSlice::new(data)])
                .collect();
            if let Err(error) = self.disk.write(id, &file, end.into(), &mut slices) {
                // What was torn is cut to give its space back; the next append would overwrite it.
                self.disk.cut(id, &file, end.into()).ok();
                tail.checked = None;
                return Err(self.write_error(&error));
            }
            let count = u32::try_from(to - from).unwrap_or(u32::MAX);
            appended.marks.insert(id, (count, end + bytes));
            if let Some(slot) = self.write_slots().get_mut(&id) {
                slot.end = end + bytes;
                slot.pending += count;
                // It may have been closed while all of it was synced. Now it must stay.
                slot.file.get_or_insert(file);
            }
            self.dirty.fetch_add(bytes.into(), Ordering::Relaxed);
            self.metrics.written_blocks.inc_by(count.into());
            self.metrics.written_bytes.inc_by(bytes.into());
        }
        Ok((locations, appended))
    }

    /// The file to append to, with its end: a new one where a record of so many bytes does not fit.
    fn active(
        &self,
        tail: &mut Tail,
        record_bytes: u32,
    ) -> Result<(u32, Arc<File>, u32), StoreError> {
        if let Some((id, file)) = &tail.active {
            let end = self.read_slots().get(id).map_or(0, |slot| slot.end);
            if end == 0 || end + record_bytes <= self.sizes.segment_bytes_max {
                return Ok((*id, Arc::clone(file), end));
            }
        }
        let id = tail.next;
        let file = self.disk.create(id).map_err(|error| self.write_error(&error))?;
        let file = Arc::new(file);
        // Synced before anything in it is acknowledged, together with the file.
        self.directory_dirty.store(true, Ordering::SeqCst);
        let mut slots = self.write_slots();
        make_room(&mut slots, self.sizes.files_open_max);
        slots.insert(id, Slot::new(Some(Arc::clone(&file)), 0));
        drop(slots);
        tail.next += 1;
        tail.active = Some((id, Arc::clone(&file)));
        Ok((id, file, 0))
    }

    fn check_space(&self, tail: &mut Tail, bytes: u64, floor: Floor) -> Result<(), StoreError> {
        let floor = match floor {
            Floor::Writing => self.free_bytes_min,
            Floor::Compaction => self.free_bytes_min / 2,
        };
        let fresh = tail.checked.is_some_and(|then| then.elapsed() < SPACE_CHECK_EVERY)
            && tail.appended_since < SPACE_CHECK_BYTES
            && tail.free_bytes >= floor + tail.appended_since + bytes;
        if !fresh {
            tail.free_bytes = self.disk.free_bytes().map_err(|error| store_error(&error))?;
            tail.appended_since = 0;
            tail.checked = Some(Instant::now());
            self.metrics.free_bytes.set(gauge(tail.free_bytes));
        }
        if tail.free_bytes < floor + tail.appended_since + bytes {
            return Err(StoreError::Full { available_bytes: tail.free_bytes });
        }
        tail.appended_since += bytes;
        Ok(())
    }

    /// Whether writes will soon be refused for want of space.
    pub(in crate::blockstore) fn is_space_short(&self) -> bool {
        let least = self.free_bytes_min.saturating_mul(2);
        self.disk.free_bytes().is_ok_and(|free| free < least)
    }

    fn write_error(&self, error: &io::Error) -> StoreError {
        match store_error(error) {
            StoreError::Full { .. } => {
                StoreError::Full { available_bytes: self.disk.free_bytes().unwrap_or(0) }
            }
            other => other,
        }
    }
}

/// Header and multihash of a record.
struct Head {
    bytes: [u8; HEADER_BYTES + KEY_BYTES_MAX],
    length: usize,
    record_bytes: u32,
}

impl Head {
    fn new(key: &Key, data: &[u8]) -> Self {
        let header = Header::new(key, data);
        let length = HEADER_BYTES + key.as_bytes().len();
        let mut bytes = [0; HEADER_BYTES + KEY_BYTES_MAX];
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes[HEADER_BYTES..length].copy_from_slice(key.as_bytes());
        Self { bytes, length, record_bytes: header.record_bytes() }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
