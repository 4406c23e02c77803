//! Space of dead records, given back: what lives in a half-dead segment is copied to the end of the
//! log, and its file is taken away.
//!
//! **Invariant:** a file goes only after a transaction that saw no live byte in it is durable.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::block::StoreError;
use crate::db::{Error, Transaction};

use super::collect::Pace;
use super::disk::store_error;
use super::index::{self, Edit, Row};
use super::record::Key;
use super::scan::Scan;
use super::segments::{Floor, Location};
use super::{Inner, blocking, lock};

/// Bytes copied at once.
const COPY_BYTES: usize = 8 << 20;
/// Records copied at once.
const COPY_RECORDS: usize = 4096;
/// The segment that is written to is ended for its dead bytes only when it has so many, in the
/// background.
const ROLL_DEAD_BYTES_MIN: u32 = 64 << 20;

/// Records that live, and where.
type Live = Vec<(Key, Bytes, Location)>;

impl Inner {
    /// Compacts every segment that is less than half alive; gives the bytes won. Does nothing while
    /// the segments are needed as they are.
    pub(super) async fn compact_all(self: &Arc<Self>, pace: Pace) -> Result<u64, StoreError> {
        let Ok(_removing) = self.removing.try_lock() else { return Ok(0) };
        let rows = index::segments(&self.db.read()?)?;
        let live = |id: u32| rows.get(&id).map_or(0, |row| row.live);
        if let Some((id, end)) = self.segments.active_segment() {
            let dead = end.saturating_sub(live(id));
            let least = if pace == Pace::Asked { 1 } else { ROLL_DEAD_BYTES_MIN };
            if dead >= least && dead > end / 2 {
                self.segments.roll(id);
            }
        }
        let half_dead = |&(id, end): &(u32, u32)| {
            (live(id) == 0 || live(id) < end / 2) && !lock(&self.unfit).contains(&id)
        };
        let mut chosen: Vec<_> = self.segments.idle().into_iter().filter(half_dead).collect();
        // Those that take no room to give back first.
        chosen.sort_unstable_by_key(|(id, _)| live(*id));
        let mut freed = 0;
        for (id, end) in chosen {
            match self.compact(id, end, pace).await {
                Ok(bytes) => freed += bytes,
                Err(error @ StoreError::Full { .. }) => {
                    tracing::warn!(%error, "no room to compact segments");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(freed)
    }

    /// Compacts one segment that nobody writes to.
    async fn compact(self: &Arc<Self>, id: u32, end: u32, pace: Pace) -> Result<u64, StoreError> {
        let mut scan = None;
        let mut copied = 0;
        while !self.is_dead(id)? {
            let started = Instant::now();
            let inner = Arc::clone(self);
            let (live, next) = blocking(move || inner.find_live(id, end, scan)).await??;
            scan = Some(next);
            if live.is_empty() {
                break;
            }
            copied += self.copy(live).await?;
            if pace == Pace::Gentle {
                tokio::time::sleep(started.elapsed()).await;
            }
        }
        let dead = self.db.write_to_free(move |tx| forget(tx, id)).await?;
        if !dead {
            // Some live record was not found: it is damaged.
            tracing::warn!(segment = id, "a segment with damaged records is not compacted");
            lock(&self.unfit).insert(id);
            return Ok(0);
        }
        let segments = Arc::clone(&self.segments);
        let removed = blocking(move || segments.remove(id)).await?;
        let removed = removed.map_err(|error| store_error(&error))?;
        self.metrics.removed_bytes.inc_by(removed);
        Ok(removed.saturating_sub(copied))
    }

    /// Whether a segment needs no reading, for nothing in it lives.
    fn is_dead(&self, id: u32) -> Result<bool, StoreError> {
        let rows = index::segments(&self.db.read()?)?;
        Ok(rows.get(&id).is_none_or(|row| row.live == 0))
    }

    /// The next records of a segment that index rows point to.
    fn find_live(&self, id: u32, end: u32, scan: Option<Scan>) -> Result<(Live, Scan), StoreError> {
        let mut scan = match scan {
            Some(scan) => scan,
            None => match self.segments.file(id).map_err(|error| store_error(&error))? {
                Some(file) => Scan::new(file, end),
                None => return Err(StoreError::Io(format!("segment {id} went away").into())),
            },
        };
        let snapshot = self.db.read()?;
        let (mut live, mut bytes) = (Live::new(), 0);
        while bytes < COPY_BYTES && live.len() < COPY_RECORDS {
            let Some(found) = scan.next().map_err(|error| store_error(&error))? else { break };
            let at = Location { segment: id, offset: found.offset };
            let row = index::find(&snapshot, &found.key)?;
            if row.is_some_and(|row| row.at == at) {
                bytes += found.data.len();
                live.push((found.key, found.data, at));
            }
        }
        Ok((live, scan))
    }

    /// Copies records to the end of the log and points their rows there.
    async fn copy(self: &Arc<Self>, live: Live) -> Result<u64, StoreError> {
        let inner = Arc::clone(self);
        let (moves, appended) = blocking(move || {
            let records: Vec<_> = live.iter().map(|(key, data, _)| (*key, data.clone())).collect();
            let (to, appended) = inner.segments.append(&records, Floor::Compaction)?;
            let moves: Vec<_> =
                live.iter().zip(to).map(|((key, _, from), to)| (*key, *from, to)).collect();
            Ok::<_, StoreError>((moves, Arc::new(appended)))
        })
        .await??;
        self.segments.sync(&appended).await?;
        let (inner, new) = (Arc::clone(self), Arc::clone(&appended));
        let copied = self
            .db
            .write_to_free(move |tx| {
                let mut edit = Edit::begin(tx)?;
                for id in new.segments() {
                    let segment = edit.segment(id)?;
                    segment.length = segment.length.max(inner.segments.synced(id));
                }
                let mut copied = 0;
                for (key, from, at) in &moves {
                    if let Some(row) = edit.find(key)?.filter(|row| row.at == *from) {
                        edit.set(key, Some(row), Some(Row { at: *at, ..row }))?;
                        copied += u64::from(row.record_bytes(key));
                    }
                }
                edit.finish()?;
                Ok::<_, Error>(copied)
            })
            .await?;
        // Until here the new segment was not to be compacted.
        drop(appended);
        self.metrics.compacted_bytes.inc_by(copied);
        Ok(copied)
    }
}

/// Forgets a segment if nothing in it lives.
fn forget(tx: &mut Transaction<'_>, id: u32) -> Result<bool, Error> {
    let mut edit = Edit::begin(tx)?;
    if edit.segment(id)?.live > 0 {
        return Ok(false);
    }
    edit.forget_segment(id)?;
    edit.finish()?;
    Ok(true)
}
