//! Paces what this node dials, so that nobody can make it knock at a third party's door again and
//! again by naming that door as a provider's.
//!
//! It stands below DNS, where every socket to be opened passes with the address it really goes to.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::back_off::BackOff;
use super::table::{Refusal, ip_of};
use crate::p2p::tags::Tags;

/// Sockets that are being connected at a time; further ones wait.
const IN_FLIGHT_MAX: usize = 64;

/// Holes that may be punched at one door within [`HOLES_PERIOD`]; a relayed connection is worth three.
/// Whoever is behind a relay may name any door, and is not to make us knock at a third party's.
const HOLES_MAX: u32 = 9;
const HOLES_PERIOD: Duration = Duration::from_secs(60);
/// Doors at which holes are punched that are remembered.
const HOLE_DOORS_MAX: usize = 1024;

/// Where a socket goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Door {
    ip: IpAddr,
    port: u16,
    udp: bool,
}

impl Door {
    /// Where a multiaddr's first hop goes to; none where it is named or not of IP.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let ip = ip_of(address)?;
        match address.iter().nth(1)? {
            Protocol::Tcp(port) => Some(Self { ip, port, udp: false }),
            Protocol::Udp(port) => Some(Self { ip, port, udp: true }),
            _ => None,
        }
    }
}

/// Holes that were allowed at a door.
#[derive(Debug, Clone, Copy)]
struct Holes {
    since: Instant,
    count: u32,
    /// Those of them that are still to be punched.
    open: u32,
}

/// What was dialled in vain. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::p2p) struct Dials {
    doors: Arc<Mutex<BackOff<Door>>>,
    holes: Arc<Mutex<HashMap<Door, Holes>>>,
    in_flight: Arc<Semaphore>,
    tags: Tags,
}

impl Dials {
    /// Nothing was dialled yet; protected peers are dialled whenever that is asked.
    pub(in crate::p2p) fn new(tags: Tags) -> Self {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        Self { doors: Arc::new(Mutex::new(BackOff::new())), holes: Arc::default(), in_flight, tags }
    }

    /// Holes are about to be punched at these addresses: both sides agreed on it, over a relay. Such
    /// a dial comes several times in a row and mostly fails, and waits for nothing.
    pub(super) fn punch(&self, addresses: &[Multiaddr], now: Instant) {
        let mut holes = self.holes.lock().unwrap_or_else(PoisonError::into_inner);
        holes.retain(|_, each| each.since + HOLES_PERIOD > now);
        for door in addresses.iter().filter_map(Door::of) {
            if holes.len() >= HOLE_DOORS_MAX && !holes.contains_key(&door) {
                continue;
            }
            let holes = holes.entry(door).or_insert(Holes { since: now, count: 0, open: 0 });
            if holes.count < HOLES_MAX {
                (holes.count, holes.open) = (holes.count + 1, holes.open + 1);
            }
        }
    }

    /// Whether a dial punches a hole that was allowed.
    fn punches(&self, door: &Door) -> bool {
        let mut holes = self.holes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(holes) = holes.get_mut(door).filter(|holes| holes.open > 0) else { return false };
        holes.open -= 1;
        true
    }

    pub(super) fn doors(&self) -> MutexGuard<'_, BackOff<Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_exempt(&self, address: &Multiaddr) -> bool {
        let peer: Option<PeerId> = address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        peer.is_some_and(|peer| self.tags.is_protected(&peer))
    }
}

/// A transport whose dials are paced.
#[derive(Debug)]
pub(in crate::p2p) struct Paced<T> {
    inner: T,
    dials: Dials,
}

impl<T> Paced<T> {
    pub(in crate::p2p) const fn new(inner: T, dials: Dials) -> Self {
        Self { inner, dials }
    }
}

/// Why a dial came to nothing.
#[derive(Debug, thiserror::Error)]
pub(in crate::p2p) enum PacedError<E: Error + 'static> {
    #[error("{0}")]
    Refused(#[source] Refusal),
    #[error("{0}")]
    Inner(#[source] E),
}

impl<T> Transport for Paced<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
    T::Error: Send + Sync + 'static,
    T::Output: 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = T::Output;
    type Error = PacedError<T::Error>;
    type ListenerUpgrade = Upgrade<T>;
    type Dial = Pin<Box<dyn Future<Output = Result<T::Output, Self::Error>> + Send>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address).map_err(|error| error.map(PacedError::Inner))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let door = Door::of(&address);
        let exempt =
            self.dials.is_exempt(&address) || door.is_some_and(|door| self.dials.punches(&door));
        let dial = self.inner.dial(address, options).map_err(|e| e.map(PacedError::Inner))?;
        let Some(door) = door.filter(|_| !exempt) else {
            return Ok(Box::pin(async move { dial.await.map_err(PacedError::Inner) }));
        };
        let dials = self.dials.clone();
        Ok(Box::pin(async move {
            // The semaphore is never closed.
            let _permit = dials.in_flight.acquire().await.ok();
            // Only now: one that was given up while it waited has knocked at no door.
            let begun = dials.doors().begin(door, Instant::now());
            begun.map_err(|wait| PacedError::Refused(Refusal::back_off(wait)))?;
            let outcome = dial.await;
            match &outcome {
                Ok(_) => dials.doors().connected(&door),
                Err(_) => dials.doors().failed(door, Instant::now()),
            }
            outcome.map_err(PacedError::Inner)
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = Pin::new(&mut self.inner).poll(cx);
        event.map(|event| event.map_upgrade(Upgrade::<T>::new).map_err(PacedError::Inner))
    }
}

/// An inbound connection on its way, as the transport below has it.
pub(in crate::p2p) struct Upgrade<T: Transport>(Pin<Box<T::ListenerUpgrade>>);

impl<T: Transport> Upgrade<T> {
    fn new(upgrade: T::ListenerUpgrade) -> Self {
        Self(Box::pin(upgrade))
    }
}

impl<T: Transport> Future for Upgrade<T>
where
    T::Error: 'static,
{
    type Output = Result<T::Output, PacedError<T::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map_err(PacedError::Inner)
    }
}

/// Whether a dial failed by our own pacing alone: that says nothing of who was dialled.
pub(super) fn is_paced(error: &(dyn Error + 'static)) -> bool {
    if error.downcast_ref::<Refusal>().is_some() {
        return true;
    }
    if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return is_paced(inner);
    }
    error.source().is_some_and(is_paced)
}

#[cfg(test)]
mod tests;
