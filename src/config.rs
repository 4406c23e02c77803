//! The configuration: one section a room, assembled from defaults, a file, the environment and the
//! command line, each winning over those before it.

mod check;
mod load;
mod log;
mod paths;

use serde::{Deserialize, Serialize};

use crate::{
    bitswap, blockstore, cache, db, denylist, gateway, http, http_source, network, p2p, retrieval,
    routing, upload,
};

pub use load::{Error, Loaded, Origin, Overrides, load};
pub use log::{Format as LogFormat, Log};
pub use paths::Environment;

/// All that can be configured. `config.toml` at the top of the repository has every key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Never touch the network.
    pub offline: bool,
    /// The gateway.
    pub gateway: gateway::Config,
    /// The API and the console.
    pub api: http::ApiConfig,
    /// Metrics and health.
    pub admin: http::AdminConfig,
    /// What all listeners have in common.
    pub http: http::Config,
    /// Blocks in memory.
    pub cache: cache::Config,
    /// Blocks on disk.
    pub blockstore: blockstore::Config,
    /// What must neither leave nor come in.
    pub denylist: denylist::Config,
    /// Finding blocks.
    pub retrieval: retrieval::Config,
    /// Names, and who provides what.
    pub routing: routing::Config,
    /// The network as a whole.
    pub network: network::Config,
    /// The network of peers.
    pub p2p: p2p::Config,
    /// Blocks from and to peers.
    pub bitswap: bitswap::Config,
    /// Blocks from HTTP providers.
    pub http_source: http_source::Config,
    /// Uploads.
    pub upload: upload::Config,
    /// The database.
    pub db: db::Config,
    /// The log.
    pub log: Log,
}
