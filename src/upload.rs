//! Uploads: bytes, folders and CARs in, pinned DAGs out.
//!
//! Bytes are cut into pieces, the pieces are hashed on all cores, and what was hashed becomes trees
//! in order and goes to the store while the next pieces are read. All uploads together hold at most
//! 48 MiB of pieces, each besides that one piece that is being filled, and what its names take.
//!
//! **Invariant:** bounded memory whatever the size; nothing acknowledged before it is durable.

mod adding;
mod batch;
mod car;
mod contents;
mod graph;
mod names;
mod pool;
mod write;

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::block::{Blocked, Cid, StoreError};
use crate::blockstore::{Pin, PinError, Store, Writing};
use crate::db::{self, Db};
use crate::denylist::Denylist;
use crate::ipld;
use crate::routing::Fresh;
use crate::task::Tasks;

pub use adding::{Adding, Options};
pub use car::{Imported, Incomplete};
pub use contents::{Content, Contents, Kind, Record, TITLE_BYTES_MAX, Whose};
pub use names::{DEPTH_MAX, ENTRIES_MAX, NAME_BYTES_MAX, NAMES_BYTES_MAX, NameError};

use contents::Recorded;
use pool::Pool;

/// The section of uploads in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most bytes of one upload.
    pub bytes_max: u64,
    /// Most uploads at once; further ones are told to come back.
    pub concurrent_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { bytes_max: 1 << 40, concurrent_max: 64 }
    }
}

crate::metrics! {
    /// What was uploaded.
    pub struct Metrics {
        /// Bytes of uploads that were acknowledged.
        bytes: counter("estuary_upload_bytes_total"),
        /// Uploads that were acknowledged, by what they are.
        contents: counter_vec("estuary_upload_contents_total", "kind"),
        /// Uploads under way.
        under_way: gauge("estuary_upload_under_way_uploads"),
    }
}

/// Why an upload was not taken. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As many are under way as may be: come back.
    #[error("too many uploads are under way; try again in a moment")]
    Busy,
    /// It is larger than one upload may be.
    #[error("an upload is of at most {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It holds nothing.
    #[error("the upload holds no file")]
    Nothing,
    /// A name in it is of no use.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It is not what it claims to be.
    #[error(transparent)]
    Content(#[from] ipld::Error),
    /// A block of the DAG is neither in the CAR nor here.
    #[error("{0} is missing: the CAR must hold all of its root's DAG")]
    Missing(Box<Cid>),
    /// Blocks in the CAR are not of the DAG.
    #[error("{blocks} blocks of the CAR are not under its root; leave them out")]
    NotUnderRoot {
        /// How many.
        blocks: u64,
    },
    /// The same was uploaded before, and the uploader wants no second record.
    #[error("this content was uploaded before, as {0}")]
    Before(u64),
    /// The body could not be read to its end.
    #[error("the body broke off: {0}")]
    Body(io::Error),
    /// A block of it must not be kept.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records failed.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// It was given up, as at a shutdown.
    #[error("the upload was given up")]
    GivenUp,
}

/// Takes uploads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upload {
    store: Store,
    db: Db,
    denylist: Denylist,
    fresh: Option<Fresh>,
    bytes_max: u64,
    places: Arc<Semaphore>,
    pool: Pool,
    tasks: Tasks,
    metrics: Metrics,
}

/// A place among the uploads under way.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    under_way: crate::metrics::IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.dec();
    }
}

impl Upload {
    /// Uploads go into `store`, their records into `db`.
    #[must_use]
    pub fn new(store: Store, db: Db, config: &Config, metrics: Metrics) -> Self {
        Self {
            store,
            db,
            denylist: Denylist::default(),
            fresh: None,
            bytes_max: config.bytes_max,
            places: Arc::new(Semaphore::new(config.concurrent_max)),
            pool: Pool::new(),
            tasks: Tasks::new(),
            metrics,
        }
    }

    /// The same, but nothing is kept that this list blocks.
    #[must_use]
    pub fn guarded_by(self, denylist: Denylist) -> Self {
        Self { denylist, ..self }
    }

    /// The same, and who provides it hears of what is pinned.
    #[must_use]
    pub fn telling(self, fresh: Option<Fresh>) -> Self {
        Self { fresh, ..self }
    }

    fn tell(&self, root: &Cid) {
        if let Some(fresh) = &self.fresh {
            fresh.root(root);
        }
    }

    /// Most bytes of one upload.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Begins to add files and folders.
    pub async fn begin(&self, options: Options) -> Result<Adding, Error> {
        let place = self.place()?;
        Adding::begin(self.clone(), place, options).await
    }

    /// What was uploaded.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents::new(self.db.clone())
    }

    /// Pins a DAG that the store holds whole, without a record.
    pub async fn pin_here(&self, root: Cid) -> Result<Pin, PinError> {
        let pin = self.store.pin_checked(root, |cid| self.denylist.check_block(cid)).await?;
        self.tell(&root);
        Ok(pin)
    }

    /// Takes the pin off a content and forgets its records. False when there was no pin.
    pub async fn unpin(&self, cid: &Cid) -> Result<bool, Error> {
        let root = *cid;
        let mut from = 0;
        // Most of the records first, some at a time: a pin without records can be seen and removed.
        while let Some(next) =
            self.db.write_to_free(move |tx| contents::forget(tx, &root, from)).await?
        {
            from = next;
        }
        // The last ones go with the pin: an upload of the same that was acknowledged meanwhile has
        // both, or neither.
        let last = move |tx: &mut db::Transaction<'_>| {
            let mut from = Some(from);
            while let Some(next) = from {
                from = contents::forget(tx, &root, next)?;
            }
            Ok(())
        };
        let (unpinned, ()) = self.store.unpin_with(cid, last).await?;
        Ok(unpinned)
    }

    fn place(&self) -> Result<Place, Error> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Busy)?;
        self.metrics.under_way.inc();
        Ok(Place { _permit: permit, under_way: self.metrics.under_way.clone() })
    }

    /// Pins what was written under `root`, and records it in the same transaction.
    async fn pin(
        &self,
        writing: Writing,
        root: Cid,
        size: u64,
        kind: Kind,
        record: Record,
    ) -> Result<Content, Error> {
        let also =
            move |tx: &mut db::Transaction<'_>| contents::record(tx, root, size, kind, record);
        let (_, recorded) = writing.pin(root, also).await?;
        self.tell(&root);
        self.recorded(recorded)
    }

    /// Records what is pinned already; nothing where the pin was taken off meanwhile.
    async fn record(&self, root: Cid, size: u64, kind: Kind, record: Record) -> Result<(), Error> {
        let job = move |tx: &mut db::Transaction<'_>| {
            if Store::is_pinned_in(tx, &root)? {
                contents::record(tx, root, size, kind, record).map(Some)
            } else {
                Ok(None)
            }
        };
        let recorded: Result<_, db::Error> = self.db.write(job).await;
        recorded?.map(|recorded| self.recorded(recorded)).transpose()?;
        Ok(())
    }

    fn recorded(&self, recorded: Recorded) -> Result<Content, Error> {
        let content = match recorded {
            Recorded::New(content) => *content,
            Recorded::Before(id) => return Err(Error::Before(id)),
        };
        self.metrics.contents.with_label_values(&[content.kind.name()]).inc();
        Ok(content)
    }
}

#[cfg(test)]
mod tests;
