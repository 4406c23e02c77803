//! Who has content: providers, the seam that finds them, and the seam that fetches from them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use tokio::time::Instant;

use crate::block::{Block, Cid, FetchError};

/// Most addresses of one provider that are kept (reliability: a record may list thousands).
pub const ADDRESSES_MAX: usize = 16;

/// How content can be fetched from a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Bitswap over libp2p (`transport-bitswap`).
    Bitswap,
    /// The trustless gateway over HTTP (`transport-ipfs-gateway-http`).
    Http,
    /// Graphsync over libp2p (`transport-graphsync-filecoinv1`).
    Graphsync,
}

/// A set of [`Protocol`]s; empty where nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protocols(u8);

impl Protocols {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self(0);

    /// The set with one more.
    #[must_use]
    pub const fn with(self, protocol: Protocol) -> Self {
        Self(self.0 | 1 << protocol as u8)
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, protocol: Protocol) -> bool {
        self.0 & 1 << protocol as u8 != 0
    }

    /// Whether nothing is known.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        [Protocol::Bitswap, Protocol::Http, Protocol::Graphsync]
            .into_iter()
            .filter(move |protocol| self.contains(*protocol))
    }
}

/// Somebody who is said to have content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its identity; none for an HTTP endpoint that has none.
    pub peer: Option<PeerId>,
    /// Where it is, at most [`ADDRESSES_MAX`]; none where only the DHT or the address book knows.
    pub addresses: Vec<Multiaddr>,
    /// What it speaks.
    pub protocols: Protocols,
    /// The router that named it, as in metrics: `dht`, `delegated`, `peering`…
    pub found_by: &'static str,
}

impl Provider {
    /// What tells it from others; none where it has neither identity nor address.
    #[must_use]
    pub fn id(&self) -> Option<ProviderId> {
        let endpoint = || self.addresses.first().cloned().map(ProviderId::Endpoint);
        self.peer.map(ProviderId::Peer).or_else(endpoint)
    }
}

/// What tells a provider from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProviderId {
    /// A peer.
    Peer(PeerId),
    /// An HTTP endpoint without an identity.
    Endpoint(Multiaddr),
}

/// What a provider did in a session, for whoever chooses among providers later.
#[derive(Debug, Clone, PartialEq)]
pub struct Deed {
    /// Who.
    pub who: ProviderId,
    /// Blocks it gave.
    pub blocks: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Time in which it was asked for something, in all.
    pub busy: Duration,
    /// From a want to its block or its no, typically; none where it never answered.
    pub latency: Option<Duration>,
    /// Failures: not reached, broken off, lies, silence. That it lacks a block is none.
    pub failures: u32,
}

/// A router that gave no answer, or only part of one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the router {router} gave no answer: {reason}")]
pub struct RouterError {
    /// The router, as in [`Provider::found_by`] or its URL.
    pub router: Arc<str>,
    /// What went wrong.
    pub reason: Arc<str>,
}

/// Finds providers of content.
pub trait ContentRouter: Send + Sync {
    /// Providers of `cid` as they are found, from all routers at once, until all have answered or
    /// `deadline` has come. A provider that two routers name may come twice. Dropping the stream
    /// ends the search.
    fn providers(
        &self,
        cid: &Cid,
        deadline: Instant,
    ) -> BoxStream<'static, Result<Provider, RouterError>>;
    /// Who is asked, in words, for whoever is told that nobody was found: `the DHT and 2 routers`.
    fn describe(&self) -> Arc<str> {
        "the routers".into()
    }
}

/// What a fetch asks of a [`SourceSession`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The block wanted.
    pub cid: Cid,
}

/// What travels with a fetch.
#[derive(Debug, Clone)]
pub struct FetchContext {
    /// When the asker no longer waits.
    pub deadline: Instant,
    /// The root of what was asked for, for whoever counts bytes by it; none where it is not known.
    pub root: Option<Cid>,
}

/// A way to fetch blocks: from peers, from HTTP providers, from storage providers.
pub trait BlockSource: Send + Sync {
    /// The source's name in metrics and headers.
    fn name(&self) -> &'static str;
    /// Begins the part of one request that this source has: whoever gave one of its blocks is
    /// asked first for the next.
    fn open(&self) -> Arc<dyn SourceSession>;
}

/// One request's conversation with those a source knows. Dropped, it withdraws whatever it asked.
pub trait SourceSession: Send + Sync {
    /// Fetches one block, verified. Waits as long as somebody it knows may still give it;
    /// [`FetchError::NotFound`] where nobody is known, or all have said that they lack it. Then
    /// providers are to be found, and it can be asked again. Dropping the future withdraws the want.
    fn fetch<'a>(
        &'a self,
        want: Want,
        context: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>>;
    /// Waits for a block that [`Self::fetch`] did not find, without asking anew: whoever was asked,
    /// or is on the way to us, may come by it and tell. [`FetchError::NotFound`] as soon as there is
    /// nobody of whom that can be hoped; at once where a no is final. Dropping the future withdraws
    /// the want.
    fn await_late<'a>(
        &'a self,
        want: Want,
        _: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError::NotFound(Box::new(want.cid)))))
    }
    /// Takes in somebody who is said to have the content. False where it is of no use here: it
    /// speaks none of this source's protocols, or has no address that may be dialled.
    fn add_provider(&self, provider: &Provider) -> bool;
    /// Whom this session met so far.
    fn met(&self) -> Met;
    /// What each provider did for this session so far; asked once, when the request is over.
    fn deeds(&self) -> Vec<Deed> {
        Vec::new()
    }
}

/// Whom a session met, for whoever is told why content was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Met {
    /// Peers or endpoints it knows of.
    pub known: u32,
    /// Those it reached.
    pub reached: u32,
    /// Those that answered, be it to say no.
    pub answered: u32,
    /// Those that gave a block.
    pub gave: u32,
}
