//! Every record read and hashed.

use crate::block::{Block, Cid, StoreError, codec};
use crate::blockstore::Inner;
use crate::blockstore::index::Row;
use crate::blockstore::read::read_record;
use crate::blockstore::record::Key;
use crate::db::Error;

use super::Findings;
use super::repair::Fix;

/// Threads that read and hash.
const THREADS: usize = 2;
/// Rows at a time; they are read in the order they lie on disk.
const CHUNK_ROWS: usize = 8192;

impl Inner {
    /// Reads and hashes the record of every row; `each` sees the rows too. Gives the last key.
    pub(super) fn check_records(
        &self,
        rows: impl Iterator<Item = Result<(Key, Row), Error>>,
        findings: &mut Findings,
        mut each: impl FnMut(&Key, &Row),
    ) -> Result<Option<Key>, StoreError> {
        let (mut rows, mut last) = (rows, None);
        loop {
            let chunk: Result<Vec<_>, _> = rows.by_ref().take(CHUNK_ROWS).collect();
            let mut chunk = chunk?;
            let Some((key, _)) = chunk.last() else { return Ok(last) };
            last = Some(*key);
            for (key, row) in &chunk {
                each(key, row);
                findings.blocks += 1;
                findings.bytes += u64::from(row.length);
            }
            chunk.retain(|(key, row)| {
                if row.is_lost() {
                    findings.problem(|| format!("block {key} is lost, and pins count on it"));
                }
                !row.is_lost()
            });
            chunk.sort_unstable_by_key(|(_, row)| row.at);
            for (key, row) in self.find_damaged(&chunk)? {
                self.damaged(key, row);
                let (segment, offset) = (row.at.segment, row.at.offset);
                findings.fixable(Fix::Damaged(key, row.at), || {
                    format!("block {key} is damaged, in segment {segment} at {offset}")
                });
            }
        }
    }

    fn find_damaged(&self, rows: &[(Key, Row)]) -> Result<Vec<(Key, Row)>, StoreError> {
        let part = rows.len().div_ceil(THREADS).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = rows
                .chunks(part)
                .map(|rows| {
                    scope.spawn(move || {
                        let mut damaged = Vec::new();
                        for (key, row) in rows {
                            if !self.is_intact(key, row)? {
                                damaged.push((*key, *row));
                            }
                        }
                        Ok::<_, StoreError>(damaged)
                    })
                })
                .collect();
            let mut damaged = Vec::new();
            for part in parts {
                let part = part.join();
                damaged.extend(part.map_err(|_| StoreError::Io("a check panicked".into()))??);
            }
            Ok(damaged)
        })
    }

    /// Whether a row's record is there, intact, and hashes to its name.
    fn is_intact(&self, key: &Key, row: &Row) -> Result<bool, StoreError> {
        let file = match self.segments.file(row.at.segment) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(crate::blockstore::disk::store_error(&error)),
        };
        let data = match read_record(&file, key, row) {
            Ok(data) => data,
            Err(error) => {
                tracing::warn!(%error, segment = row.at.segment, "a segment cannot be read");
                None
            }
        };
        let cid = key.multihash().map(|hash| Cid::new_v1(codec::RAW, hash));
        Ok(data.zip(cid).is_some_and(|(data, cid)| Block::verify(cid, data).is_ok()))
    }
}
