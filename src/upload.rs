//! Uploads: bytes, folders and CARs in, pinned DAGs out.
//!
//! **Invariant:** bounded memory whatever the size; nothing acknowledged before it is durable.

use serde::{Deserialize, Serialize};

use crate::blockstore::Store;
use crate::db::Db;

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
    }
}

/// Takes uploads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upload {
    store: Store,
    db: Db,
}

impl Upload {
    /// Uploads go into `store`, their records into `db`.
    #[must_use]
    pub fn new(store: Store, db: Db, _config: &Config, _metrics: Metrics) -> Self {
        Self { store, db }
    }
}
