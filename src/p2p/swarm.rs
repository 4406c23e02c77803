//! The swarm is put together here; its driver is the one task that has it.

mod driver;

use std::time::Duration;

use libp2p::{Multiaddr, PeerId, Swarm, relay};
use libp2p_identity::Keypair;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::address_book::AddressBook;
use super::behaviour::Behaviour;
use super::gate::Gate;
use super::listen::Listen;
use super::manager::{self, Dials, Manager, Marks};
use super::names::Names;
use super::peering::{self, Peering};
use super::relays::Relays;
use super::streams::Streams;
use super::tags::Tags;
use super::transport;
use super::{COMMANDS_MAX, Config, DialError, EVENTS_MAX, Error, P2p, Parts, PeerInfo};

use driver::Driver;

/// How long a connection without streams is kept: long, for the manager decides.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Inbound streams of one connection under negotiation at a time.
const NEGOTIATING_STREAMS_MAX: usize = 128;

/// What is asked of the swarm.
#[derive(Debug)]
pub(super) enum Command {
    Addresses(oneshot::Sender<Vec<Multiaddr>>),
    Announced(oneshot::Sender<Vec<Multiaddr>>),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Peer { peer: PeerId, reply: oneshot::Sender<Option<PeerInfo>> },
    Dial { peer: PeerId, addresses: Vec<Multiaddr>, reply: oneshot::Sender<Result<(), DialError>> },
    Disconnect { peer: PeerId, reply: oneshot::Sender<bool> },
}

/// Starts the node.
pub(super) fn start(config: &Config, identity: &Keypair, parts: Parts) -> Result<P2p, Error> {
    let marks = Marks::new(config.connections_low, config.connections_high);
    start_with(config, identity, parts, marks)
}

/// The same, with the patience of the connection manager as an argument.
pub(super) fn start_with(
    config: &Config,
    identity: &Keypair,
    parts: Parts,
    marks: Marks,
) -> Result<P2p, Error> {
    let Parts { guard, metrics, tasks, db } = parts;
    let (streams, tags) = (Streams::new(metrics.clone()), Tags::default());
    let gate = Gate::new(guard);
    for address in config.peering.iter().chain(&config.bootstrap).chain(&config.relays) {
        gate.name(address);
    }
    let book = AddressBook::open(guard, db.as_ref());
    if let Some(db) = db {
        tasks.spawn(book.clone().write_on(db, tasks.stop_token()));
    }
    let dials = Dials::new(tags.clone());
    let manager = Manager::new(manager::Parts {
        marks,
        memory_bytes_max: config.memory_bytes_max,
        guard,
        tags: tags.clone(),
        dials: dials.clone(),
        book,
        metrics: metrics.clone(),
        own: config.peering.iter().chain(&config.relays).cloned().collect(),
    });
    let mut swarm = build(config, identity, &gate, &dials, manager, streams.clone())?;
    let listen = Listen::of(config);
    let mut awaited = Vec::new();
    for address in listen.addresses {
        match swarm.listen_on(address.clone()) {
            Ok(listener) => awaited.push(listener),
            Err(error) if listen.required => {
                return Err(Error::Listen { address, reason: plain(&error) });
            }
            Err(error) => tracing::debug!(%address, error = plain(&error), "not listening"),
        }
    }
    for address in &config.announce {
        gate.own(address, true);
        swarm.add_external_address(address.clone());
    }
    let peering = Peering::new(&config.peering, Instant::now());
    for peer in peering.peers() {
        tags.protect(peer, peering::REASON);
    }
    let (commands, asked) = mpsc::channel(COMMANDS_MAX);
    let (peered, when_peered) = watch::channel(peering.all_tried());
    let (events, _) = broadcast::channel(EVENTS_MAX);
    let peer_id = *swarm.local_peer_id();
    let relays = Relays::new(config.relay_client, &config.relays);
    let driver = Driver {
        swarm,
        asked,
        tags: tags.clone(),
        events: events.clone(),
        gate: gate.clone(),
        announce: config.announce.clone(),
        metrics,
        peers: Default::default(),
        dials: Default::default(),
        peering,
        peered,
        relays,
        awaited,
        waiting: Vec::new(),
    };
    tasks.spawn(driver.run(tasks.stop_token()));
    Ok(P2p { peer_id, commands, streams, tags, gate, events, peered: when_peered })
}

fn build(
    config: &Config,
    identity: &Keypair,
    gate: &Gate,
    dials: &Dials,
    manager: Manager,
    streams: Streams,
) -> Result<Swarm<Behaviour>, Error> {
    let peer = identity.public().to_peer_id();
    let (through_relays, relay) =
        if config.relay_client { Some(relay::client::new(peer)).unzip() } else { (None, None) };
    let transport = transport::build(identity, gate, &Names::system(), dials, through_relays)?;
    let behaviour = Behaviour::new(config, identity, gate.guard(), manager, streams, relay);
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX);
    Ok(Swarm::new(transport, behaviour, peer, config))
}

/// The reason at the bottom of an error.
fn plain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    // Wrappers often repeat what they wrap, and say so in more lines than one.
    bottom.to_string().replace('\n', " ")
}
