//! Delegated routing: HTTP servers that know who provides what (Delegated Routing V1 over HTTP).
//!
//! All are asked at once, and what one says is given as its line arrives: the slow never delay the
//! fast. One that fails is left alone for a while.

mod breaker;
mod lines;
mod metrics;
mod record;
mod router;
mod search;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use libp2p_identity::PeerId;
use tokio::time::Instant;

use crate::block::{Cid, Mh};
use crate::network::{Client, HttpUrl};
use crate::provider::{ContentRouter, Provider, RouterError};

use super::name::Key;

pub use metrics::Metrics;

use router::Router;
use search::{Held, Kept};

/// Most routers that are asked.
pub(super) const ROUTERS_MAX: usize = 16;
/// What routers are asked for: what we can fetch by, and what may turn out to be that (IPIP-484).
const FILTER: &str = "filter-protocols=unknown,transport-bitswap,transport-ipfs-gateway-http";
/// How long one router may take over one question, in milliseconds.
const ROUTER_MS_MAX: u64 = 15_000;
/// Memory that answers take, in bytes, about.
const HELD_BYTES_MAX: u64 = 16 << 20;
/// For how long an answer that names somebody is used again, in seconds.
const HELD_S: u64 = 60;

/// The delegated routers. Cheap to clone.
#[derive(Clone)]
pub struct Delegated {
    routers: Arc<[Arc<Router>]>,
    held: Held,
}

impl std::fmt::Debug for Delegated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.routers.iter().map(|router| router.name())).finish()
    }
}

impl Delegated {
    /// Asks the routers at these URLs, at most 16, through this client: one that goes
    /// wherever the operator's configuration says. URLs that are none are left out; `config check`
    /// has said so before.
    #[must_use]
    pub fn new(urls: &[String], client: &Client, metrics: Metrics) -> Self {
        let urls = urls.iter().filter_map(|url| HttpUrl::parse(url).ok()).take(ROUTERS_MAX);
        let routers =
            urls.map(move |url| Arc::new(Router::new(url, client.clone(), metrics.clone())));
        let weigh = |_: &(usize, Mh), kept: &Kept| kept.weight();
        let held = moka::sync::Cache::builder()
            .max_capacity(HELD_BYTES_MAX)
            .weigher(weigh)
            .time_to_live(Duration::from_secs(HELD_S))
            .build();
        Self { routers: routers.collect(), held }
    }

    /// What is wrong with the URLs of routers, if something is.
    pub fn check(urls: &[String]) -> Result<(), String> {
        if urls.len() > ROUTERS_MAX {
            return Err(format!("{ROUTERS_MAX} routers are the most that are asked"));
        }
        urls.iter().try_for_each(|url| match HttpUrl::parse(url) {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("{url:?} is no URL such as https://router.example: {why}")),
        })
    }

    /// Whether there is none to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
    }

    /// Where a peer is, as the routers know: records of this peer alone.
    #[must_use]
    pub fn peer(
        &self,
        peer: PeerId,
        deadline: Instant,
    ) -> BoxStream<'static, Result<Provider, RouterError>> {
        let Some(key) = Key::from_hash_bytes(&peer.to_bytes()) else {
            return stream::empty().boxed();
        };
        let path: Arc<str> = format!("/routing/v1/peers/{key}").into();
        let of_each = self.routers.iter().map(|router| {
            search::run(Arc::clone(router), Arc::clone(&path), until(deadline), None)
        });
        let is_its = move |found: &Result<Provider, RouterError>| {
            let its = found.as_ref().map_or(true, |found| found.peer == Some(peer));
            std::future::ready(its)
        };
        stream::select_all(of_each).filter(is_its).boxed()
    }

    /// Records of a key, one from each router that has one, as they arrive. They are not verified:
    /// that is for whoever keeps the best.
    #[must_use]
    pub fn ipns(
        &self,
        key: &Key,
        deadline: Instant,
    ) -> BoxStream<'static, Result<Bytes, RouterError>> {
        let path: Arc<str> = format!("/routing/v1/ipns/{key}").into();
        let of_each: FuturesUnordered<_> = self
            .routers
            .iter()
            .map(|router| {
                let (router, path) = (Arc::clone(router), Arc::clone(&path));
                async move { router.record(&path, until(deadline)).await.transpose() }
            })
            .collect();
        of_each.filter_map(std::future::ready).boxed()
    }

    /// Gives a record of a key to all routers; says how many took it. An error where none did.
    pub async fn put_ipns(
        &self,
        key: &Key,
        record: &Bytes,
        deadline: Instant,
    ) -> Result<usize, RouterError> {
        let path = format!("/routing/v1/ipns/{key}");
        let mut puts: FuturesUnordered<_> = self
            .routers
            .iter()
            .map(|router| router.put_record(&path, record.clone(), until(deadline)))
            .collect();
        let (mut took, mut why) = (0, None);
        while let Some(outcome) = puts.next().await {
            match outcome {
                Ok(()) => took += 1,
                Err(error) => why = Some(error),
            }
        }
        match why {
            Some(error) if took == 0 => Err(error),
            _ => Ok(took),
        }
    }
}

fn until(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + Duration::from_millis(ROUTER_MS_MAX))
}

#[cfg(test)]
mod tests;

impl ContentRouter for Delegated {
    /// Providers of `cid`, from all routers as their records arrive. A router that gives no answer,
    /// or breaks off, is told of once.
    fn providers(
        &self,
        cid: &Cid,
        deadline: Instant,
    ) -> BoxStream<'static, Result<Provider, RouterError>> {
        let path: Arc<str> = format!("/routing/v1/providers/{cid}?{FILTER}").into();
        let hash = *cid.hash();
        let of_each = self.routers.iter().enumerate().map(|(place, router)| {
            let key = (place, hash);
            if let Some(kept) = self.held.get(&key).filter(|kept| kept.holds(Instant::now())) {
                router.answered_from_memory();
                return kept.providers().boxed();
            }
            let keep = Some((self.held.clone(), key));
            search::run(Arc::clone(router), Arc::clone(&path), until(deadline), keep)
        });
        stream::select_all(of_each).boxed()
    }

    fn describe(&self) -> Arc<str> {
        match &*self.routers {
            [] => "no delegated router".into(),
            [only] => only.name().into(),
            routers => format!("{} delegated routers", routers.len()).into(),
        }
    }
}
