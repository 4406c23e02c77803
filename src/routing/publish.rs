//! Publishing names of our own: records that this node signs or was given to keep published, given
//! to the routers again as long as they hold.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::Keypair;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::{self, Db, Table};
use crate::task::now_unix;

use super::ipns::{Record, Statement};
use super::name::{Key, Value};
use super::{Error, Names, Put};

/// Names that are kept published.
const PUBLISHED_MAX: u64 = 1000;
/// By multihash of the key: [`Row`].
const PUBLISHED: Table = Table::new("ipns_published");
/// How often records are given to the routers again (Kubo does it as often).
const AGAIN_EVERY: Duration = Duration::from_secs(4 * 3600);
/// How soon after the start that is done for the first time.
const AGAIN_AFTER_START: Duration = Duration::from_secs(60);
/// How long one publication takes at most.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest life of a record that is signed here: a year.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How a name is kept published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// For how long records are signed, in seconds, where we sign them.
    lifetime_s: Option<u64>,
}

/// What became of a publication.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The name.
    pub key: Key,
    /// Its record.
    pub record: Record,
    /// Peers and servers that took it; it is kept here all the same where none did.
    pub taken: usize,
}

/// Keeps names published. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    db: Db,
    identity: Option<Arc<Keypair>>,
}

impl Publisher {
    /// Signs with this key, where there is one.
    pub(super) fn new(db: Db, identity: Option<Keypair>) -> Self {
        Self { db, identity: identity.map(Arc::new) }
    }

    /// The same, and this key signs.
    pub(super) fn with(self, identity: Option<Keypair>) -> Self {
        Self { identity: identity.map(Arc::new), ..self }
    }

    fn identity(&self) -> Result<&Keypair, Error> {
        let none = || Error::Signing("this node has no identity: it is offline".into());
        self.identity.as_deref().ok_or_else(none)
    }

    /// Writes down that a name is to be kept published.
    async fn keep(&self, key: &Key, lifetime: Option<Duration>) -> Result<(), Error> {
        let row = Row { lifetime_s: lifetime.map(|lifetime| lifetime.as_secs()) };
        let row = serde_json::to_vec(&row).unwrap_or_default();
        let (full, key) = (self.db.read()?.len(PUBLISHED)? >= PUBLISHED_MAX, key.hash().to_bytes());
        self.db
            .write(move |tx| {
                if full && tx.get(PUBLISHED, &key)?.is_none() {
                    return Err(Error::TooManyPublished);
                }
                Ok(tx.put(PUBLISHED, &key, &row)?)
            })
            .await
    }

    fn rows(&self) -> Result<Vec<(Key, Row)>, db::Error> {
        let rows = self.db.read()?.range(PUBLISHED, Bound::Unbounded, Bound::Unbounded)?;
        let mut found = Vec::new();
        for row in rows.take(PUBLISHED_MAX as usize) {
            let (key, row) = row?;
            let read = Key::from_hash_bytes(&key).zip(serde_json::from_slice(&row).ok());
            found.extend(read);
        }
        Ok(found)
    }

    async fn forget(&self, key: &Key) -> Result<(), db::Error> {
        let key = key.hash().to_bytes();
        self.db.write_to_free(move |tx| tx.remove(PUBLISHED, &key)).await
    }
}

impl Names {
    /// Signs with the node's identity that its name stands for `value`, and publishes that for as
    /// long as the node runs; each record holds for `lifetime`.
    pub async fn publish(
        &self,
        value: Value,
        lifetime: Duration,
        ttl: Duration,
    ) -> Result<Publication, Error> {
        let publisher = self.publisher()?;
        let identity = publisher.identity()?;
        let key = Key::of(&identity.public())
            .ok_or_else(|| Error::Signing("it is of a kind that names do not have".into()))?;
        // The newest that anybody knows, so that ours is newer.
        let before = self.best_record(&key).await?.map(|record| record.sequence());
        let sequence = before.map_or(0, |sequence| sequence.saturating_add(1));
        let lifetime = lifetime.min(LIFETIME_MAX);
        let statement = Statement { value, sequence, ttl, eol: ends(lifetime)? };
        let record = statement.sign(identity)?;
        self.put(&key, record.bytes().clone()).await?;
        publisher.keep(&key, Some(lifetime)).await?;
        let taken = self.give(&key, &record).await;
        Ok(Publication { key, record, taken })
    }

    /// Keeps a record that somebody else signed, and publishes it as long as it holds.
    pub async fn publish_record(
        &self,
        key: &Key,
        bytes: bytes::Bytes,
    ) -> Result<Publication, Error> {
        let publisher = self.publisher()?;
        let (record, _) = self.put(key, bytes).await?;
        publisher.keep(key, None).await?;
        let taken = self.give(key, &record).await;
        Ok(Publication { key: key.clone(), record, taken })
    }

    /// Keeps a record that somebody else signed, and gives it to the routers once: its owner keeps it
    /// published.
    pub async fn put_and_give(
        &self,
        key: &Key,
        bytes: bytes::Bytes,
    ) -> Result<(Publication, Put), Error> {
        let (record, put) = self.put(key, bytes).await?;
        let taken = self.give(key, &record).await;
        Ok((Publication { key: key.clone(), record, taken }, put))
    }

    async fn give(&self, key: &Key, record: &Record) -> usize {
        let deadline = Instant::now() + PUBLISH_TIMEOUT;
        match self.lookups() {
            Some(lookups) => lookups.publish(key, record.bytes(), deadline).await,
            None => 0,
        }
    }

    /// Publishes again from time to time, until the node stops.
    pub async fn keep_published(self, stop: CancellationToken) {
        let mut wait = AGAIN_AFTER_START;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                done = self.publish_again() => if let Err(error) = done {
                    tracing::warn!(%error, "records of names were not published again");
                }
            }
            wait = AGAIN_EVERY;
        }
    }

    pub(super) async fn publish_again(&self) -> Result<(), Error> {
        let publisher = self.publisher()?;
        for (key, row) in publisher.rows()? {
            let Ok(record) = self.record(&key) else {
                publisher.forget(&key).await?;
                continue;
            };
            let record = match row.lifetime_s {
                Some(lifetime_s) => self.renewed(publisher, &key, record, lifetime_s).await?,
                None if record.remaining(now_unix()).is_none() => {
                    publisher.forget(&key).await?;
                    continue;
                }
                None => record,
            };
            let taken = self.give(&key, &record).await;
            tracing::debug!(name = %key, taken, "a name was published again");
        }
        Ok(())
    }

    /// The record, or the same signed for longer where half of its life is over.
    async fn renewed(
        &self,
        publisher: &Publisher,
        key: &Key,
        record: Record,
        lifetime_s: u64,
    ) -> Result<Record, Error> {
        let left = record.remaining(now_unix()).map_or(0, |left| left.as_secs());
        let identity = publisher.identity()?;
        if left > lifetime_s / 2 || Key::of(&identity.public()).as_ref() != Some(key) {
            return Ok(record);
        }
        let statement = Statement {
            value: record.value().clone(),
            sequence: record.sequence(),
            ttl: record.ttl().unwrap_or_default(),
            eol: ends(Duration::from_secs(lifetime_s))?,
        };
        let renewed = statement.sign(identity)?;
        self.put(key, renewed.bytes().clone()).await?;
        Ok(renewed)
    }
}

/// The time so long from now.
fn ends(lifetime: Duration) -> Result<OffsetDateTime, Error> {
    let ends = i64::try_from(now_unix().saturating_add(lifetime.as_secs())).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(ends)
        .map_err(|error| Error::Signing(error.to_string().into()))
}

#[cfg(test)]
mod tests;
