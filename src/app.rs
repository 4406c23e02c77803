//! The composition root: builds every room in order, gives each its parts, and stops them in
//! reverse. The only file that names every room.

mod data_dir;
mod keeper;
mod listen;
mod network;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::block::StoreError;
use crate::blockstore::{self, Store};
use crate::cache::{self, BlockCache};
use crate::config::Config;
use crate::db::{self, Db};
use crate::denylist::{self, Allowlist, Denylist};
use crate::gateway::{self, Gateway};
use crate::http::api::{NodeInfo, Parts};
use crate::http::tls::{self, Pair, Tls};
use crate::http::{self, Admin, Listener, Readiness, Server};
use crate::metrics::Registry;
use crate::p2p::dht::Dht;
use crate::p2p::{self, P2p};
use crate::provider::ContentRouter;
use crate::retrieval::{self, Retriever, Scores};
use crate::routing::{self, Names, Routing};
use crate::task::{Tasks, now_unix};
use crate::traffic::{self, Traffic};
use crate::upload::{self, Upload};

pub use data_dir::{DataDir, has_store, socket_path};

use data_dir::{Socket, SocketFile};
use listen::{Bound, Place};
use network::{Ground, Network};

/// How long the admin listener may take to finish, after all others have.
const ADMIN_GRACE: Duration = Duration::from_secs(1);
/// How long a command waits for the first peers.
const MEET_MAX: Duration = Duration::from_secs(5);
/// How often it looks whether they are there.
const MEET_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long background work may take to come to a good end.
const TASKS_GRACE: Duration = Duration::from_secs(10);

/// Why the node did not open, start or stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data directory.
    #[error("another estuary (pid {pid}) uses {}; stop it, or choose another --data-dir", path.display())]
    InUse {
        /// What it says it is.
        pid: String,
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The operator's socket cannot be made.
    #[error("the socket {} cannot be made: {source}", path.display())]
    Socket {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A listener cannot be bound.
    #[error("{key} = {address} cannot be listened on: {source}; free it or set {key} to another")]
    Bind {
        /// Its key in the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A list of what is blocked cannot be used.
    #[error(transparent)]
    Denylist(#[from] denylist::Error),
    /// A certificate cannot be shown.
    #[error("{key}: {source}")]
    Certificate {
        /// The key of its list in the configuration.
        key: &'static str,
        /// Why not.
        source: Box<tls::Error>,
    },
    /// The database did not open or close.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The store did not open or close.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network of peers did not start.
    #[error(transparent)]
    P2p(#[from] p2p::Error),
    /// There is no HTTP client to be had.
    #[error("no HTTP client can be made: {0}")]
    HttpClient(#[from] rustls::Error),
    /// What names are resolved by cannot be had.
    #[error(transparent)]
    Names(#[from] routing::Error),
    /// There is no randomness to be had for the console's token.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// Two metrics have one name: a bug.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// The rooms, open.
#[derive(Debug)]
pub struct App {
    config: Config,
    started: u64,
    /// The network of peers; none where it is not touched.
    p2p: Option<P2p>,
    dht: Option<Dht>,
    registry: Registry,
    store: Store,
    traffic: Traffic,
    retriever: Retriever,
    routing: Routing,
    names: Names,
    gateway: Gateway,
    accounts: Accounts,
    upload: Upload,
    readiness: Arc<Readiness>,
    /// Cancelled when the node begins to stop.
    draining: CancellationToken,
    tasks: Tasks,
    db: Db,
    /// Last, for it is given back when all else is gone.
    data_dir: DataDir,
}

impl App {
    /// Opens the rooms on the data directory at `path`, which is made where there is none.
    pub fn open(config: &Config, path: &Path) -> Result<Self, Error> {
        Self::open_in(config, DataDir::take(path)?, false)
    }

    /// The same for one task that fetches: peers are dialled and asked, and nobody dials us or hears
    /// what we have. Waits a little for the first of them.
    pub async fn open_to_fetch(config: &Config, path: &Path) -> Result<Self, Error> {
        let mut config = config.clone();
        config.p2p.listen = Some(Vec::new());
        (config.p2p.relay_client, config.p2p.autonat) = (false, false);
        if config.routing.dht == routing::DhtMode::Server {
            config.routing.dht = routing::DhtMode::Client;
        }
        config.routing.provide = routing::Provide::Off;
        let app = Self::open_in(&config, DataDir::take(path)?, true)?;
        let deadline = Instant::now() + MEET_MAX;
        while !app.has_met() && Instant::now() < deadline {
            tokio::time::sleep(MEET_LOOK_EVERY).await;
        }
        Ok(app)
    }

    /// Whether the peers are there that others are found through: those the operator chose, and
    /// somebody of the DHT where it is joined by somebody.
    fn has_met(&self) -> bool {
        let Some(p2p) = &self.p2p else { return true };
        let chosen = self.config.p2p.peering.iter().filter_map(p2p::peer_of);
        let is_in_dht = |dht: &Dht| self.config.p2p.bootstrap.is_empty() || dht.peers() != (0, 0);
        chosen.into_iter().all(|peer| p2p.is_connected(&peer))
            && self.dht.as_ref().is_none_or(is_in_dht)
    }

    /// Opens the rooms; those of the network of peers, too, where `peers` says so.
    fn open_in(config: &Config, data_dir: DataDir, peers: bool) -> Result<Self, Error> {
        let registry = Registry::new();
        // First: where nobody knows what is blocked, nothing is to begin.
        let metrics = denylist::Metrics::register(&registry)?;
        let denylist = Denylist::open(&config.denylist, metrics.clone())?;
        let allow = config.gateway.allow.clone();
        let allowlist = Allowlist::open(allow, config.denylist.reload_ms, metrics)?;

        let metrics = db::Metrics::register(&registry)?;
        let db = Db::open(&data_dir.database(), &config.db, metrics)?;

        let metrics = blockstore::Metrics::register(&registry)?;
        let store = Store::open(&data_dir.segments(), db.clone(), &config.blockstore, metrics)?;
        let tasks = Tasks::new();
        let traffic = Traffic::open(db.clone(), &traffic::Metrics::register(&registry)?)?;
        tasks.spawn(traffic.clone().write_down(tasks.stop_token()));
        tasks.spawn(store.clone().maintain(tasks.stop_token()));
        tasks.spawn(denylist.watch(tasks.stop_token()));
        tasks.spawn(allowlist.watch(tasks.stop_token()));

        let names_metrics = routing::Metrics::register(&registry)?;
        let ground = Ground {
            config,
            data_dir: &data_dir,
            db: &db,
            store: &store,
            denylist: &denylist,
            traffic: &traffic,
            tasks: &tasks,
            registry: &registry,
        };
        let Network { p2p, identity, dht, sources, routing, records, fresh } =
            Network::open(&ground, &names_metrics, peers && !config.offline)?;

        let cache = BlockCache::new(&config.cache, cache::Metrics::register(&registry)?);
        let metrics = retrieval::Metrics::register(&registry)?;
        let router =
            (!routing.is_empty()).then(|| Arc::new(routing.clone()) as Arc<dyn ContentRouter>);
        let scores = Scores::open(db.clone())?;
        tasks.spawn(scores.clone().write_down(tasks.stop_token()));
        let (disk, owner) = (Arc::new(store.clone()), tasks.clone());
        let parts = retrieval::Parts { cache, store: disk, sources, router, scores, tasks: owner };
        let retriever =
            Retriever::new(parts, config.retrieval.clone(), &metrics).guarded_by(denylist.clone());

        let (metrics, section, offline) = (names_metrics, &config.routing, config.offline);
        let parts = routing::Parts::open(section, offline, db.clone(), &tasks, &metrics)?;
        let parts = parts.asking(records, &tasks, &metrics).signing(identity);
        let names = Names::new(parts, metrics);
        if p2p.is_some() {
            tasks.spawn(names.clone().keep_published(tasks.stop_token()));
        }
        let parts = gateway::Parts { retriever: retriever.clone(), names: names.clone() };
        let metrics = gateway::Metrics::register(&registry)?;
        let gateway = Gateway::new(parts, &config.gateway, &metrics)
            .admitting(allowlist)
            .counting(traffic.clone());
        let accounts = Accounts::new(db.clone());
        let metrics = upload::Metrics::register(&registry)?;
        let upload = Upload::new(store.clone(), db.clone(), &config.upload, metrics)
            .guarded_by(denylist)
            .telling(fresh);

        let draining = CancellationToken::new();
        let free_bytes_min = config.blockstore.free_bytes_min;
        let readiness = Readiness::new(db.clone(), store.clone(), free_bytes_min, draining.clone());
        let readiness = Arc::new(readiness);

        let (config, started) = (config.clone(), now_unix());
        Ok(Self {
            config,
            started,
            p2p,
            dht,
            registry,
            store,
            traffic,
            retriever,
            routing,
            names,
            gateway,
            accounts,
            upload,
            readiness,
            draining,
            tasks,
            db,
            data_dir,
        })
    }

    /// What the API is made of.
    fn parts(&self, node: NodeInfo) -> Parts {
        Parts {
            upload: self.upload.clone(),
            store: self.store.clone(),
            traffic: self.traffic.clone(),
            retriever: self.retriever.clone(),
            routing: self.routing.clone(),
            names: self.names.clone(),
            gateway: self.gateway.clone(),
            accounts: self.accounts.clone(),
            readiness: Arc::clone(&self.readiness),
            p2p: self.p2p.clone(),
            node: Arc::new(node),
        }
    }

    /// What the node says of itself when it listens on these addresses.
    fn node(&self, at: Addresses) -> NodeInfo {
        let configured = self.config.gateway.url.clone();
        NodeInfo {
            data_dir: self.data_dir.path().to_owned(),
            gateway_url: configured.unwrap_or_else(|| listen::url("http", at.gateway)),
            gateway_tls_url: at.gateway_tls.map(|at| listen::url("https", at)),
            api_url: listen::url("http", at.api),
            api_tls_url: at.api_tls.map(|at| listen::url("https", at)),
            admin_url: listen::url("http", at.admin),
            api_address: at.api,
            api_hosts: self.config.api.hosts.clone(),
            started: self.started,
        }
    }

    /// The operator's routes, for commands in this process: nothing listens, and links go where
    /// a node of this configuration would.
    pub fn operator(&self) -> axum::Router {
        let config = &self.config;
        let node = self.node(Addresses {
            gateway: listen::GATEWAY.address(config.gateway.listen),
            gateway_tls: config.gateway.tls_listen,
            api: listen::API.address(config.api.listen),
            api_tls: config.api.tls_listen,
            admin: listen::ADMIN.address(config.admin.listen),
        });
        self.parts(node).operator()
    }

    /// The store, for what has no route.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Ends background work, makes all durable, and gives the data directory back.
    pub async fn close(self) -> Result<(), Error> {
        self.tasks.stop(TASKS_GRACE).await;
        let stored = self.store.close().await;
        // It waits for its last commit.
        let db = self.db.clone();
        let closed = tokio::task::spawn_blocking(move || db.close()).await;
        stored?;
        closed.unwrap_or_else(|stopped| Err(StoreError::Io(stopped.to_string().into()).into()))?;
        Ok(())
    }
}

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    gateway: SocketAddr,
    gateway_tls: Option<SocketAddr>,
    api: SocketAddr,
    api_tls: Option<SocketAddr>,
    admin: SocketAddr,
}

/// The listeners of a node, before it serves.
struct Listeners {
    gateway: Bound,
    gateway_tls: Option<Bound>,
    api: Bound,
    api_tls: Option<Bound>,
    admin: Bound,
    socket: Socket,
}

impl Listeners {
    fn bind(config: &Config, data_dir: &DataDir) -> Result<Self, Error> {
        let secure = |place: Place, configured: Option<SocketAddr>| {
            configured.map(|address| place.bind(Some(address))).transpose()
        };
        Ok(Self {
            gateway: listen::GATEWAY.bind(config.gateway.listen)?,
            gateway_tls: secure(listen::GATEWAY_TLS, config.gateway.tls_listen)?,
            api: listen::API.bind(config.api.listen)?,
            api_tls: secure(listen::API_TLS, config.api.tls_listen)?,
            admin: listen::ADMIN.bind(config.admin.listen)?,
            socket: data_dir.listen()?,
        })
    }

    fn addresses(&self) -> Addresses {
        let of = |bound: &Bound| bound.address;
        Addresses {
            gateway: self.gateway.address,
            gateway_tls: self.gateway_tls.as_ref().map(of),
            api: self.api.address,
            api_tls: self.api_tls.as_ref().map(of),
            admin: self.admin.address,
        }
    }
}

/// A node: the rooms, and the listeners before them.
#[derive(Debug)]
pub struct Node {
    app: App,
    info: NodeInfo,
    /// The gateway, the API, both over TLS, and the operator's socket.
    fronts: Vec<Server>,
    admin: Server,
    socket: SocketFile,
}

impl Node {
    /// Takes the data directory, binds, opens the rooms, and serves.
    pub fn start(config: &Config, data_dir: &Path) -> Result<Self, Error> {
        let data_dir = DataDir::take(data_dir)?;
        // Bound first: what cannot be had should be said before a large store is opened, and who
        // connects meanwhile waits instead of being refused.
        let listeners = Listeners::bind(config, &data_dir)?;
        if !config.offline {
            P2p::check_listen(&config.p2p)?;
        }
        let app = App::open_in(config, data_dir, true)?;
        Self::serve(app, listeners)
    }

    fn serve(app: App, listeners: Listeners) -> Result<Self, Error> {
        let info = app.node(listeners.addresses());
        let Listeners { gateway, gateway_tls, api, api_tls, admin, socket } = listeners;
        let (config, parts) = (&app.config.http, app.parts(info.clone()));
        let metrics = http::Metrics::register(&app.registry)?;
        let tls = |key, listener, certificates: &[PathBuf], keys: &[PathBuf]| {
            let pairs = Pair::of(certificates, keys);
            let tls = Tls::load(pairs, listener, &metrics);
            let tls = tls.map_err(|source| Error::Certificate { key, source: Box::new(source) })?;
            app.tasks.spawn(tls.clone().watch(app.tasks.stop_token()));
            Ok::<_, Error>(tls)
        };
        let mut gateways = vec![gateway.listener];
        if let Some(bound) = gateway_tls {
            let gateway::Config { tls_cert, tls_key, .. } = &app.config.gateway;
            let tls = tls("gateway.tls_cert", "gateway_tls", tls_cert, tls_key)?;
            gateways.push(bound.listener.over_tls(&tls));
        }
        let mut apis = vec![api.listener];
        if let Some(bound) = api_tls {
            let http::ApiConfig { tls_cert, tls_key, .. } = &app.config.api;
            let tls = tls("api.tls_cert", "api_tls", tls_cert, tls_key)?;
            apis.push(bound.listener.over_tls(&tls));
        }
        let router = parts.clone().router()?;
        let mut fronts = http::serve_gateway(gateways, app.gateway.clone(), config, &metrics);
        fronts.extend(http::serve_api(apis, &router, config, &metrics));
        let operator = Listener::Unix(socket.listener);
        fronts.push(http::serve_operator(operator, parts.operator(), config, &metrics));
        let service = Admin::new(app.registry.clone(), Arc::clone(&app.readiness));
        let admin = http::serve_admin(admin.listener, service, config, &metrics);
        Ok(Self { app, info, fronts, admin, socket: socket.file })
    }

    /// What it says of itself.
    #[must_use]
    pub fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// Its rooms.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Says on `/readyz` that it stops, accepts no more, lets what is under way finish within the
    /// grace, and closes the rooms. False when something had to be cut short.
    pub async fn stop(self) -> Result<bool, Error> {
        self.app.draining.cancel();
        let grace = Duration::from_millis(self.app.config.http.grace_ms);
        let stopped = join_all(self.fronts.into_iter().map(|front| front.stop(grace))).await;
        self.admin.stop(ADMIN_GRACE).await;
        drop(self.socket);
        self.app.close().await?;
        Ok(stopped.into_iter().all(|whole| whole))
    }
}
