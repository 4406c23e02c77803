//! The rooms that reach out: peers, HTTP providers, and the routers that find them.

use std::sync::Arc;
use std::time::Duration;

use crate::bitswap::{self, Bitswap};
use crate::blockstore::Store;
use crate::config::Config;
use crate::db::Db;
use crate::denylist::Denylist;
use crate::http_source::{self, HttpSource};
use crate::metrics::Registry;
use crate::network::{self, Client, Guard};
use crate::p2p::dht::Dht;
use crate::p2p::{self, Keypair, P2p};
use crate::provider::{BlockSource, ContentRouter};
use crate::routing::{
    self, Delegated, DhtAnnouncer, Fresh, Keeper, Provide, ProvideMetrics, Providing, RecordRouter,
    Routing,
};
use crate::task::Tasks;
use crate::traffic::Traffic;

use super::Error;
use super::data_dir::DataDir;
use super::keeper::{Blocks, Roots};

/// What the rooms that reach out are made of.
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) data_dir: &'a DataDir,
    pub(super) db: &'a Db,
    pub(super) store: &'a Store,
    pub(super) denylist: &'a Denylist,
    pub(super) traffic: &'a Traffic,
    pub(super) tasks: &'a Tasks,
    pub(super) registry: &'a Registry,
}

/// The rooms that reach out; without sources and routers where the network is not to be touched.
pub(super) struct Network {
    pub(super) p2p: Option<P2p>,
    /// The node's key.
    pub(super) identity: Option<Keypair>,
    /// Our part in the DHT; none where it is off.
    pub(super) dht: Option<Dht>,
    /// Where blocks come from that are not here.
    pub(super) sources: Vec<Arc<dyn BlockSource>>,
    /// Who finds out who has them.
    pub(super) routing: Routing,
    /// Who has records of names.
    pub(super) records: Vec<Arc<dyn RecordRouter>>,
    /// Who is to hear of what is newly pinned.
    pub(super) fresh: Option<Fresh>,
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
        let provided = ProvideMetrics::register(registry)?;
        if !online {
            let routing = Routing::new(Vec::new(), None, metrics.clone());
            let (sources, records) = (Vec::new(), Vec::new());
            let (p2p, identity, dht, fresh) = (None, None, None, None);
            return Ok(Self { p2p, identity, dht, sources, routing, records, fresh });
        }
        let guard = Guard::new(&config.network);
        let identity = p2p::load_or_make(&ground.data_dir.identity())?;
        let db = Some(ground.db.clone());
        let parts = p2p::Parts { guard, metrics: peers, tasks: tasks.clone(), db };
        let p2p = P2p::start(&config.p2p, identity.clone(), parts)?;

        let served = bitswap::Parts {
            store: Arc::new(ground.store.clone()),
            denylist: ground.denylist.clone(),
            serve: config.bitswap.serve,
            traffic: ground.traffic.clone(),
        };
        let bitswap = Bitswap::start(&p2p, served, guard, tasks, blocks);
        ground.store.tell_of_blocks(bitswap.arrivals());
        let mut sources: Vec<Arc<dyn BlockSource>> = vec![Arc::new(bitswap.client().clone())];
        let http = network::Metrics::register(registry)?;
        if config.http_source.enabled {
            let client = Client::guarded(guard, tasks, &http)?;
            let metrics = http_source::Metrics::register(registry)?;
            sources.push(Arc::new(HttpSource::new(client, ground.traffic.clone(), metrics)));
        }

        let mut content: Vec<(_, Arc<dyn ContentRouter>)> = Vec::new();
        let mut records: Vec<Arc<dyn RecordRouter>> = Vec::new();
        let bootstrap = config.p2p.bootstrap.clone();
        let dht = routing::join_dht(&config.routing, &p2p, bootstrap, guard, tasks, metrics);
        if let Some(dht) = &dht {
            content.push(("dht", Arc::new(dht.clone())));
            records.push(Arc::new(dht.clone()));
        }
        if !config.routing.delegated.is_empty() {
            let metrics = routing::DelegatedMetrics::register(registry)?;
            let client = Client::unguarded(tasks, &http)?;
            let delegated = Delegated::new(&config.routing.delegated, &client, metrics);
            content.push(("delegated", Arc::new(delegated.clone())));
            records.push(Arc::new(delegated));
        }
        let fresh = dht.clone().and_then(|dht| provide(ground, dht, provided));
        let routing = Routing::new(content, dht.clone().map(routing::find_peer), metrics.clone());
        let (p2p, identity) = (Some(p2p), Some(identity));
        Ok(Self { p2p, identity, dht, sources, routing, records, fresh })
    }
}

/// Announces what the store keeps; none where nothing is to be.
fn provide(ground: &Ground<'_>, dht: Dht, metrics: ProvideMetrics) -> Option<Fresh> {
    let (section, store) = (&ground.config.routing, ground.store.clone());
    let keeper: Arc<dyn Keeper> = match section.provide {
        Provide::Roots => Arc::new(Roots(store)),
        Provide::All => Arc::new(Blocks(store)),
        Provide::Off => return None,
    };
    let interval = Duration::from_secs(section.provide_interval_s);
    let announcer = Arc::new(DhtAnnouncer::new(dht));
    let (db, tasks) = (ground.db.clone(), ground.tasks);
    let (providing, fresh) = Providing::new(db, keeper, announcer, interval, metrics);
    tasks.spawn(providing.run(tasks.stop_token()));
    Some(fresh)
}
