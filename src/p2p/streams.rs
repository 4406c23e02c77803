//! Streams of protocols, handed out to plain async code.
//!
//! As libp2p-stream does it, but an inbound stream waits in a bounded queue where that drops it
//! when two come at once, several outbound ones are negotiated at a time, several protocol ids are
//! offered in one negotiation, and nobody is dialled by the way.

mod handler;
mod stream;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use handler::Handler;

pub use stream::Stream;

/// Inbound streams that may wait to be taken, of each set of protocols; further ones wait at their
/// connections.
const INBOUND_MAX: usize = 256;
/// Outbound streams that may wait to be negotiated, of each connection.
const OUTBOUND_MAX: usize = 64;

/// Inbound streams of one connection that protocols may have at a time; further ones are reset. Kubo
/// opens one for each message of Bitswap and waits for nothing, and a stream that is reset is blocks
/// lost: hundreds must fit.
pub(super) const INBOUND_STREAMS_MAX: usize = 1024;
/// Longest time until it is agreed on what is spoken on a stream.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection to the peer, or it broke meanwhile.
    #[error("not connected with {0}")]
    NotConnected(PeerId),
    /// The peer speaks none of the protocols.
    #[error("{0} speaks none of the protocols")]
    Unsupported(PeerId),
    /// It took too long, or the stream broke.
    #[error("no stream to {0}: {1}")]
    Io(PeerId, std::io::Error),
}

/// A stream that a peer opened.
#[derive(Debug)]
pub struct Inbound {
    /// Who.
    pub peer: PeerId,
    /// What is spoken on it.
    pub protocol: StreamProtocol,
    /// The stream.
    pub stream: Stream,
}

/// The streams that peers open, one after the other.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Inbound>);

impl Incoming {
    /// The next; none when the node stops.
    pub async fn next(&mut self) -> Option<Inbound> {
        self.0.recv().await
    }
}

/// A stream that is to be opened.
pub(super) struct Opening {
    protocols: Vec<StreamProtocol>,
    reply: oneshot::Sender<Result<(StreamProtocol, Stream), OpenError>>,
}

/// A stream that waits for room where it goes.
type Delivery = BoxFuture<'static, ()>;

/// Hands out streams. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    shared: Arc<Mutex<Shared>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: HashMap<StreamProtocol, mpsc::Sender<Inbound>>,
    /// The connections of each peer, the newest last, but those through relays before all others.
    connections: HashMap<PeerId, Vec<(ConnectionId, mpsc::Sender<Opening>)>>,
}

impl Streams {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { shared: Arc::default(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.lock().connections.contains_key(peer)
    }

    pub(super) async fn open(
        &self,
        peer: PeerId,
        protocols: &[StreamProtocol],
    ) -> Result<(StreamProtocol, Stream), OpenError> {
        let connection = self.lock().connections.get(&peer).and_then(|all| all.last().cloned());
        let (_, openings) = connection.ok_or(OpenError::NotConnected(peer))?;
        let (reply, answer) = oneshot::channel();
        let opening = Opening { protocols: protocols.to_vec(), reply };
        openings.send(opening).await.map_err(|_| OpenError::NotConnected(peer))?;
        answer.await.unwrap_or(Err(OpenError::NotConnected(peer)))
    }

    pub(super) fn accept(&self, protocols: &[StreamProtocol]) -> Incoming {
        let (sender, receiver) = mpsc::channel(INBOUND_MAX);
        let mut shared = self.lock();
        for protocol in protocols {
            shared.accepted.insert(protocol.clone(), sender.clone());
        }
        Incoming(receiver)
    }

    /// What peers may open now.
    fn protocols(&self) -> Vec<StreamProtocol> {
        let mut shared = self.lock();
        shared.accepted.retain(|_, sender| !sender.is_closed());
        shared.accepted.keys().cloned().collect()
    }

    /// Hands a stream to who takes it; where he has no room for it now, what is returned does so
    /// later. It is reset where nobody takes it: its opener sees that and tries again.
    fn deliver(&self, inbound: Inbound) -> Option<Delivery> {
        let sender = self.lock().accepted.get(&inbound.protocol).cloned()?;
        match sender.try_send(inbound) {
            Err(TrySendError::Full(inbound)) => {
                Some(Box::pin(async move { drop(sender.send(inbound).await) }))
            }
            Ok(()) | Err(TrySendError::Closed(_)) => None,
        }
    }
}

/// The part of the swarm that streams come from.
pub(super) struct Behaviour {
    streams: Streams,
    /// Connections that are being set up.
    ready: HashMap<ConnectionId, mpsc::Sender<Opening>>,
}

impl Behaviour {
    pub(super) fn new(streams: Streams) -> Self {
        Self { streams, ready: HashMap::new() }
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId) -> Handler {
        let (sender, receiver) = mpsc::channel(OUTBOUND_MAX);
        self.ready.insert(connection, sender);
        Handler::new(peer, self.streams.clone(), receiver)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                if let Some(sender) = self.ready.remove(&event.connection_id) {
                    let mut shared = self.streams.lock();
                    let connections = shared.connections.entry(event.peer_id).or_default();
                    // The last is used: a direct one where there is one.
                    let at = if event.endpoint.is_relayed() { 0 } else { connections.len() };
                    connections.insert(at, (event.connection_id, sender));
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                let mut shared = self.streams.lock();
                if let Some(connections) = shared.connections.get_mut(&event.peer_id) {
                    connections.retain(|(id, _)| *id != event.connection_id);
                    if connections.is_empty() {
                        shared.connections.remove(&event.peer_id);
                    }
                }
            }
            // Another behaviour refused the connection after this one had made its handler.
            FromSwarm::DialFailure(event) => drop(self.ready.remove(&event.connection_id)),
            FromSwarm::ListenFailure(event) => drop(self.ready.remove(&event.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
