//! Who gave blocks of a root lately: whoever has one block of a DAG mostly has all, and often its
//! root alone is announced.

use std::time::Duration;

use crate::block::{Cid, Mh};
use crate::provider::{Protocol, Protocols, Provider, ProviderId};

/// How long it is remembered who gave blocks of a root.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Roots of which it is.
const ROOTS_MAX: u64 = 1_000;
/// Providers of one root that are.
const PROVIDERS_MAX: usize = 8;

/// Who gave blocks of which root, the latest first.
pub(super) struct Givers {
    of: moka::sync::Cache<Mh, Vec<Provider>>,
}

impl Default for Givers {
    fn default() -> Self {
        let of = moka::sync::Cache::builder();
        Self { of: of.max_capacity(ROOTS_MAX).time_to_live(REMEMBERED).build() }
    }
}

impl Givers {
    /// Those who gave blocks of `root`.
    pub(super) fn of(&self, root: &Cid) -> Vec<Provider> {
        self.of.get(root.hash()).unwrap_or_default()
    }

    /// Remembers that these did.
    pub(super) fn gave(&self, root: &Cid, providers: Vec<Provider>) {
        if providers.is_empty() {
            return;
        }
        let mut all = providers;
        for earlier in self.of(root) {
            if all.iter().all(|known| known.id() != earlier.id()) {
                all.push(earlier);
            }
        }
        all.truncate(PROVIDERS_MAX);
        self.of.insert(*root.hash(), all);
    }
}

/// A peer that gave blocks without having been named: it was connected.
pub(super) fn unnamed(who: &ProviderId) -> Option<Provider> {
    let ProviderId::Peer(peer) = who else { return None };
    let protocols = Protocols::UNKNOWN.with(Protocol::Bitswap);
    let (peer, addresses) = (Some(*peer), Vec::new());
    Some(Provider { peer, addresses, protocols, found_by: "connected" })
}
