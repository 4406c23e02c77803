//! The rooms that reach out: peers, HTTP providers, and the routers that find them.

use std::sync::Arc;

use crate::bitswap::{self, Bitswap};
use crate::blockstore::Store;
use crate::config::Config;
use crate::db::Db;
use crate::denylist::Denylist;
use crate::http_source::{self, HttpSource};
use crate::metrics::Registry;
use crate::network::{self, Client, Guard};
use crate::p2p::{self, P2p};
use crate::provider::{BlockSource, ContentRouter};
use crate::routing::{self, RecordRouter, Routing};
use crate::task::Tasks;

use super::Error;
use super::data_dir::DataDir;

/// What the rooms that reach out are made of.
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) data_dir: &'a DataDir,
    pub(super) db: &'a Db,
    pub(super) store: &'a Store,
    pub(super) denylist: &'a Denylist,
    pub(super) tasks: &'a Tasks,
    pub(super) registry: &'a Registry,
}

/// The rooms that reach out; without sources and routers where the network is not to be touched.
pub(super) struct Network {
    pub(super) p2p: Option<P2p>,
    /// Where blocks come from that are not here.
    pub(super) sources: Vec<Arc<dyn BlockSource>>,
    /// Who finds out who has them.
    pub(super) routing: Routing,
    /// Who has records of names.
    pub(super) records: Vec<Arc<dyn RecordRouter>>,
}

impl Network {
    /// Opens them; nothing is touched where `online` says no.
    pub(super) fn open(
        ground: &Ground<'_>,
        metrics: &routing::Metrics,
        online: bool,
    ) -> Result<Self, Error> {
        let Ground { config, registry, tasks, .. } = *ground;
        let peers = p2p::Metrics::register(registry)?;
        let blocks = bitswap::Metrics::register(registry)?;
        if !online {
            let routing = Routing::new(Vec::new(), None, metrics.clone());
            return Ok(Self { p2p: None, sources: Vec::new(), routing, records: Vec::new() });
        }
        let guard = Guard::new(&config.network);
        let identity = p2p::load_or_make(&ground.data_dir.identity())?;
        let db = Some(ground.db.clone());
        let parts = p2p::Parts { guard, metrics: peers, tasks: tasks.clone(), db };
        let p2p = P2p::start(&config.p2p, identity, parts)?;

        let (served, denylist) = (Arc::new(ground.store.clone()), ground.denylist.clone());
        let bitswap = Bitswap::start(&p2p, served, denylist, guard, &config.bitswap, tasks, blocks);
        ground.store.tell_of_blocks(bitswap.arrivals());
        let mut sources: Vec<Arc<dyn BlockSource>> = vec![Arc::new(bitswap.client().clone())];
        if config.http_source.enabled {
            let client = Client::guarded(guard, tasks, &network::Metrics::register(registry)?)?;
            let metrics = http_source::Metrics::register(registry)?;
            sources.push(Arc::new(HttpSource::new(client, metrics)));
        }

        let mut content: Vec<(_, Arc<dyn ContentRouter>)> = Vec::new();
        let mut records: Vec<Arc<dyn RecordRouter>> = Vec::new();
        let bootstrap = config.p2p.bootstrap.clone();
        let dht = routing::join_dht(&config.routing, &p2p, bootstrap, guard, tasks);
        if let Some(dht) = &dht {
            content.push(("dht", Arc::new(dht.clone())));
            records.push(Arc::new(dht.clone()));
        }
        let routing = Routing::new(content, dht.map(routing::find_peer), metrics.clone());
        Ok(Self { p2p: Some(p2p), sources, routing, records })
    }
}
