//! Where peers were found, kept over restarts: a peer that was once of use is reached again by its
//! identity alone.

mod book;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio_util::sync::CancellationToken;

use crate::db::{self, Db, Table};
use crate::network::Guard;
use crate::task::now_unix;

use book::{Book, Known};

/// By peer id: what is known of it.
const PEERS: Table = Table::new("peers");
/// How often what changed is written; a crash loses no more.
const WRITE_EACH: Duration = Duration::from_secs(60);

/// The address book. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct AddressBook {
    book: Arc<Mutex<Book>>,
    guard: Guard,
}

impl AddressBook {
    /// What was kept in `db`; nothing, where there is none. A row that cannot be read is left out:
    /// this is knowledge that comes again by itself.
    pub(super) fn open(guard: Guard, db: Option<&Db>) -> Self {
        let rows = db.map_or(Ok(Vec::new()), load).unwrap_or_else(|error| {
            tracing::warn!(%error, "the addresses of peers cannot be read; they are found anew");
            Vec::new()
        });
        Self { book: Arc::new(Mutex::new(Book::new(rows, now_unix()))), guard }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a peer may be, the best first.
    pub(super) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.lock().addresses(peer)
    }

    /// Peers known.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// We reached a peer at this address.
    pub(super) fn reached(&self, peer: PeerId, address: &Multiaddr) {
        self.lock().reached(peer, address, now_unix());
    }

    /// A peer said where it listens. What we would not dial is left out.
    pub(super) fn identified(&self, peer: PeerId, addresses: &[Multiaddr]) {
        let allowed = addresses.iter().filter(|address| self.guard.allows_multiaddr(address));
        self.lock().named(peer, allowed, now_unix());
    }

    /// A peer is or was connected until now; whether it was of use.
    pub(super) fn seen(&self, peer: &PeerId, useful: bool) {
        self.lock().seen(peer, useful, now_unix());
    }

    /// Writes what changed each minute and once more at the end.
    pub(super) async fn write_on(self, db: Db, stop: CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(WRITE_EACH) => false,
            };
            if let Err(error) = self.write(&db).await {
                tracing::warn!(%error, "the addresses of peers are not kept");
            }
            if stopped {
                return;
            }
        }
    }

    async fn write(&self, db: &Db) -> Result<(), db::Error> {
        let changes = self.lock().changes(now_unix());
        if changes.is_empty() {
            return Ok(());
        }
        db.write(move |tx| {
            for (peer, known) in changes {
                match known.as_ref().map(serde_json::to_vec) {
                    Some(Ok(row)) => tx.put(PEERS, &peer.to_bytes(), &row)?,
                    // Gone, or not to be written, which cannot be.
                    None | Some(Err(_)) => tx.remove(PEERS, &peer.to_bytes())?,
                }
            }
            Ok(())
        })
        .await
    }
}

fn load(db: &Db) -> Result<Vec<(PeerId, Known)>, db::Error> {
    use std::ops::Bound::Unbounded;

    let rows = db.read()?.range(PEERS, Unbounded, Unbounded)?;
    let mut loaded = Vec::new();
    for row in rows.take(book::PEERS_MAX) {
        let (key, row) = row?;
        if let (Ok(peer), Ok(known)) = (PeerId::from_bytes(&key), serde_json::from_slice(&row)) {
            loaded.push((peer, known));
        }
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network;

    #[test]
    fn only_addresses_that_may_be_dialled_are_kept_and_those_we_were_at() {
        let at = |text: &str| text.parse::<Multiaddr>().unwrap();
        let (public, private) = (at("/ip4/8.8.8.8/tcp/4001"), at("/ip4/10.0.0.1/tcp/4001"));
        for (allow_private, kept) in [(false, 1), (true, 2)] {
            let guard = Guard::new(&network::Config { allow_private });
            let (book, peer) = (AddressBook::open(guard, None), PeerId::random());
            book.identified(peer, &[public.clone(), private.clone()]);
            assert_eq!(book.addresses(&peer).len(), kept, "{allow_private}");
            book.reached(peer, &private);
            assert_eq!(book.addresses(&peer), [private.clone(), public.clone()]);
        }
    }
}
