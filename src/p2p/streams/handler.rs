//! The part of a connection that streams come from.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use libp2p::PeerId;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Delivery, INBOUND_STREAMS_MAX, Inbound, NEGOTIATION_TIMEOUT, OpenError, Opening,
    Stream as Counted, Streams,
};

type Reply = oneshot::Sender<Result<(StreamProtocol, Counted), OpenError>>;

pub(in crate::p2p) struct Handler {
    peer: PeerId,
    streams: Streams,
    openings: mpsc::Receiver<Opening>,
    /// Places for inbound streams.
    places: Arc<Semaphore>,
    /// Inbound streams that nobody has room for yet; they have places.
    waiting: FuturesUnordered<Delivery>,
}

impl Handler {
    pub(super) fn new(peer: PeerId, streams: Streams, openings: mpsc::Receiver<Opening>) -> Self {
        let places = Arc::new(Semaphore::new(INBOUND_STREAMS_MAX));
        Self { peer, streams, openings, places, waiting: FuturesUnordered::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(self.streams.protocols()), ())
            .with_timeout(NEGOTIATION_TIMEOUT)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Reply, Infallible>> {
        while let Poll::Ready(Some(())) = self.waiting.poll_next_unpin(cx) {}
        while let Poll::Ready(Some(Opening { protocols, reply })) = self.openings.poll_recv(cx) {
            // Who no longer waits needs no stream.
            if !reply.is_closed() {
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(Offer(protocols), reply)
                        .with_timeout(NEGOTIATION_TIMEOUT),
                });
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => {
                    let stream = Counted::new(stream, Some(place), &self.streams.metrics);
                    let inbound = Inbound { peer: self.peer, protocol, stream };
                    self.waiting.extend(self.streams.deliver(inbound));
                }
                Err(_) => self.streams.metrics.streams_refused.inc(),
            },
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, protocol),
                info,
            }) => {
                let stream = Counted::new(stream, None, &self.streams.metrics);
                drop(info.send(Ok((protocol, stream))));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported(self.peer),
                    StreamUpgradeError::Io(error) => OpenError::Io(self.peer, error),
                    StreamUpgradeError::Timeout => {
                        OpenError::Io(self.peer, std::io::ErrorKind::TimedOut.into())
                    }
                    StreamUpgradeError::Apply(never) => match never {},
                };
                drop(info.send(Err(error)));
            }
            _ => {}
        }
    }
}

/// Protocols of which one is to be agreed on; the stream itself is what comes of it.
pub(in crate::p2p) struct Offer(Vec<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
