//! One of the two DHTs that a node has a part in: the one of the internet, or that of its own
//! networks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::StreamProtocol;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::network::{Guard, is_public};
use crate::p2p::{DialError, OpenError, P2p};
use crate::provider::ADDRESSES_MAX;

use super::store::Store;
use super::table::Table;
use super::wire::{self, ANSWER_BYTES_MAX, Contact, Message};

/// How long a peer has to be reached and to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);
/// What a peer of the table is worth to the manager of connections.
const TAG_WEIGHT: i32 = 5;
const TAG: &str = "dht";

/// Which addresses a DHT is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Public ones.
    Wan,
    /// Private ones.
    Lan,
}

impl Scope {
    pub(super) const fn protocol(self) -> StreamProtocol {
        match self {
            Self::Wan => StreamProtocol::new("/ipfs/kad/1.0.0"),
            Self::Lan => StreamProtocol::new("/ipfs/lan/kad/1.0.0"),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Wan => "wan",
            Self::Lan => "lan",
        }
    }

    /// Whether an address belongs to this DHT. One that begins with a name belongs to the internet.
    pub(super) fn holds(self, address: &Multiaddr) -> bool {
        let public = match address.iter().next() {
            Some(Protocol::Ip4(ip)) => is_public(ip.into()),
            Some(Protocol::Ip6(ip)) => is_public(ip.into()),
            Some(
                Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_),
            ) => true,
            _ => return false,
        };
        public == (self == Self::Wan)
    }
}

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it did not answer in time")]
    Timeout,
}

/// One DHT.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) scope: Scope,
    pub(super) p2p: P2p,
    guard: Guard,
    table: Mutex<Table>,
    /// Told when a peer came into the table.
    pub(super) grown: Notify,
    pub(super) queries: Arc<Semaphore>,
    /// What is kept for others; a client keeps nothing.
    store: Option<Mutex<Store>>,
}

impl Side {
    pub(super) fn new(
        scope: Scope,
        p2p: P2p,
        guard: Guard,
        queries: Arc<Semaphore>,
        store: Option<Store>,
    ) -> Self {
        let table = Mutex::new(Table::new(p2p.peer_id()));
        let store = store.map(Mutex::new);
        Self { scope, p2p, guard, table, grown: Notify::new(), queries, store }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> Option<MutexGuard<'_, Store>> {
        Some(self.store.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A peer that another named, with the addresses that may be dialled and belong here; none where
    /// it cannot be asked.
    pub(super) fn heard(&self, contact: Contact) -> Option<Contact> {
        let Contact { peer, mut addresses } = contact;
        if peer == self.p2p.peer_id() {
            return None;
        }
        addresses
            .retain(|address| self.scope.holds(address) && self.guard.allows_multiaddr(address));
        let reachable = !addresses.is_empty() || self.p2p.is_connected(&peer);
        reachable.then_some(Contact { peer, addresses })
    }

    /// A provider that a peer named, with the addresses that may be dialled. In a private network
    /// they may be public ones as well; in the public one private addresses lead nowhere.
    pub(super) fn provider(&self, contact: Contact) -> Option<Contact> {
        let Contact { peer, mut addresses } = contact;
        addresses.retain(|address| {
            let fits = self.scope == Scope::Lan || self.scope.holds(address);
            fits && self.guard.allows_multiaddr(address)
        });
        (peer != self.p2p.peer_id()).then_some(Contact { peer, addresses })
    }

    /// Where we can be reached, as far as this DHT may know.
    pub(super) async fn own_addresses(&self) -> Vec<Multiaddr> {
        let own = self.p2p.peer_id();
        let all = self.p2p.addresses().await.into_iter();
        let bare = all.filter_map(|address| wire::bare(address, &own));
        bare.filter(|address| self.scope.holds(address)).take(ADDRESSES_MAX).collect()
    }

    /// Takes a peer into the table that speaks the protocol as a server.
    pub(super) fn learn(&self, contact: Contact) {
        let peer = contact.peer;
        if self.table().insert(contact, Instant::now()) {
            self.p2p.tag(&peer, TAG, TAG_WEIGHT);
            self.grown.notify_one();
        }
    }

    pub(super) fn forget(&self, peer: &PeerId) {
        if self.table().remove(peer) {
            self.p2p.tag(peer, TAG, 0);
        }
    }

    /// Asks a peer; `framed` is what [`Message::encode`] made.
    pub(super) async fn ask(&self, contact: &Contact, framed: &[u8]) -> Result<Message, AskError> {
        let asking = async {
            let mut stream = self.open(contact).await?;
            let _busy = self.p2p.busy(contact.peer);
            wire::send(&mut stream, framed).await?;
            let answer = wire::receive(&mut stream, ANSWER_BYTES_MAX).await?;
            answer.ok_or(AskError::Io(std::io::ErrorKind::UnexpectedEof.into()))
        };
        let outcome = tokio::time::timeout(ASK_TIMEOUT, asking).await;
        let outcome = outcome.unwrap_or(Err(AskError::Timeout));
        match &outcome {
            Ok(_) => self.learn(contact.clone()),
            // One that ends the stream is there, and may only refuse what it was given.
            Err(AskError::Io(_)) => {}
            Err(_) => self.forget(&contact.peer),
        }
        outcome
    }

    /// A stream to a peer, who is connected with where we are not yet.
    pub(super) async fn open(&self, contact: &Contact) -> Result<crate::p2p::Stream, AskError> {
        self.p2p.connect(contact.peer, &contact.addresses).await?;
        Ok(self.p2p.open(contact.peer, &[self.scope.protocol()]).await?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dht_has_its_own_addresses() {
        let check = |text: &str| {
            let address: Multiaddr = text.parse().unwrap();
            (Scope::Wan.holds(&address), Scope::Lan.holds(&address))
        };
        assert_eq!(check("/ip4/9.9.9.9/tcp/4001"), (true, false));
        assert_eq!(check("/ip4/192.168.1.2/tcp/4001"), (false, true));
        assert_eq!(check("/ip4/127.0.0.1/udp/4001/quic-v1"), (false, true));
        assert_eq!(check("/ip6/::1/tcp/4001"), (false, true));
        assert_eq!(check("/dns4/example.com/tcp/443/wss"), (true, false));
        assert_eq!(check("/p2p-circuit"), (false, false));
    }
}
