use std::time::Duration;

use futures_util::AsyncWriteExt as _;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::super::message::{Dialect, Message, Presence, RawBlock, WantKind};
use super::super::network::{Budget, Courier, ReadError, Reader};
use super::super::{Bitswap, PROTOCOLS, Parts};
use super::*;
use crate::block::{Block, StoreError, codec};
use crate::denylist;
use crate::metrics::Registry;
use crate::network::{self, Guard};
use crate::p2p::{self, Inbound, Incoming, Keypair, Stream};
use crate::testing::{MemoryBlockstore, traffic};

const PATIENCE: Duration = Duration::from_secs(20);

fn start_p2p(tasks: &Tasks) -> P2p {
    let listen = Some(vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    let config = p2p::Config { listen, bootstrap: Vec::new(), ..p2p::Config::default() };
    let guard = Guard::new(&network::Config { allow_private: true });
    let metrics = p2p::Metrics::register(&Registry::new()).unwrap();
    let parts = p2p::Parts { guard, metrics, tasks: tasks.clone(), db: None };
    P2p::start(&config, Keypair::generate_ed25519(), parts).unwrap()
}

/// A node that serves, and what it is made of.
struct Node {
    tasks: Tasks,
    p2p: P2p,
    store: Arc<MemoryBlockstore>,
    bitswap: Bitswap,
}

impl Node {
    fn serving(serve: Serve, denylist: Denylist) -> Self {
        let store = Arc::new(MemoryBlockstore::default());
        Self::of(Arc::clone(&store), store, serve, denylist)
    }

    fn of(
        store: Arc<MemoryBlockstore>,
        served: Arc<dyn Blockstore>,
        serve: Serve,
        denylist: Denylist,
    ) -> Self {
        let tasks = Tasks::new();
        let p2p = start_p2p(&tasks);
        let metrics = super::super::Metrics::register(&Registry::new()).unwrap();
        let guard = Guard::new(&network::Config { allow_private: true });
        let parts = Parts { store: served, denylist, serve, traffic: traffic() };
        let bitswap = Bitswap::start(&p2p, parts, guard, &tasks, metrics);
        Self { tasks, p2p, store, bitswap }
    }

    fn new() -> Self {
        Self::serving(Serve::All, Denylist::default())
    }

    fn shared(&self) -> &Shared {
        &self.bitswap.server.shared
    }

    /// Puts blocks of this size, each different.
    fn hold(&self, count: u32, bytes: usize) -> Vec<Cid> {
        let blocks: Vec<_> = (0..count).map(|number| block(number, bytes)).collect();
        let cids = blocks.iter().map(|block| *block.cid()).collect();
        self.store.insert(blocks);
        cids
    }
}

fn block(number: u32, bytes: usize) -> Block {
    let mut data = vec![7; bytes];
    data[..4].copy_from_slice(&number.to_be_bytes());
    Block::sha2_256(codec::RAW, data.into()).unwrap()
}

/// A peer that says and hears raw messages.
struct Peer {
    _tasks: Tasks,
    p2p: P2p,
    courier: Courier,
    incoming: Incoming,
    reader: Option<Reader<Stream>>,
}

impl Peer {
    async fn of(node: &Node) -> Self {
        let tasks = Tasks::new();
        let p2p = start_p2p(&tasks);
        let incoming = p2p.accept(&PROTOCOLS);
        let addresses = timeout(PATIENCE, async {
            loop {
                let addresses = node.p2p.addresses().await;
                if !addresses.is_empty() {
                    return addresses;
                }
                tokio::task::yield_now().await;
            }
        });
        p2p.connect(node.p2p.peer_id(), &addresses.await.unwrap()).await.unwrap();
        let courier = Courier::new(p2p.clone(), node.p2p.peer_id());
        Self { _tasks: tasks, p2p, courier, incoming, reader: None }
    }

    async fn wants(&mut self, wants: Vec<Entry>) {
        self.courier.send(&Message { wants, ..Message::default() }).await.unwrap();
    }

    /// The stream that the node opens.
    async fn inbound(&mut self) -> Inbound {
        timeout(PATIENCE, self.incoming.next()).await.unwrap().unwrap()
    }

    async fn hears(&mut self) -> Message {
        self.reads().await.unwrap().unwrap().unwrap()
    }

    async fn reads(&mut self) -> Result<Result<Option<Message>, ReadError>, Elapsed> {
        if self.reader.is_none() {
            let stream = self.inbound().await.stream;
            self.reader = Some(Reader::new(stream, Budget::of_peer(), Budget::default()));
        }
        let reader = self.reader.as_mut().unwrap();
        timeout(PATIENCE, reader.next()).await
    }

    /// Hears until it has so many blocks and presences, in the order they come.
    async fn hears_lines(&mut self, count: usize) -> (Vec<RawBlock>, Vec<(Cid, Presence)>) {
        let (mut blocks, mut presences) = (Vec::new(), Vec::new());
        while blocks.len() + presences.len() < count {
            let message = self.hears().await;
            blocks.extend(message.blocks);
            presences.extend(message.presences);
        }
        (blocks, presences)
    }
}

fn want(kind: WantKind, cid: Cid) -> Entry {
    Entry { cid, priority: 1, kind, cancel: false, send_dont_have: true }
}

fn want_blocks(cids: &[Cid]) -> Vec<Entry> {
    cids.iter().map(|cid| want(WantKind::Block, *cid)).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_peer_is_given_what_it_wants_and_told_of_the_rest() {
    let node = Node::new();
    let (small, large) = (node.hold(1, 1024)[0], node.hold(1, 300_000)[0]);
    let later = block(9, 5_000);
    let mut peer = Peer::of(&node).await;
    peer.wants(vec![
        want(WantKind::Have, small),
        want(WantKind::Have, large),
        want(WantKind::Block, *later.cid()),
    ])
    .await;
    let (blocks, mut presences) = peer.hears_lines(3).await;
    presences.sort();
    let mut expected = vec![(large, Presence::Have), (*later.cid(), Presence::DontHave)];
    expected.sort();
    assert_eq!(presences, expected);
    assert_eq!(blocks, [RawBlock::of(&small, block(0, 1024).into_data())]);

    peer.wants(want_blocks(&[large])).await;
    let (blocks, _) = peer.hears_lines(1).await;
    assert_eq!(blocks, [RawBlock::of(&large, block(0, 300_000).into_data())]);

    node.store.insert([later.clone()]);
    node.bitswap.arrivals()(&mut [(*later.cid().hash(), 5_000)].into_iter());
    let (blocks, _) = peer.hears_lines(1).await;
    assert_eq!(blocks, [RawBlock::of(later.cid(), later.data().clone())]);
    let sent = 1024 + 300_000 + 5_000;
    let ledger = || node.bitswap.ledger(&peer.p2p.peer_id());
    until("what was sent is counted", || ledger() == Some(Ledger { sent, received: 0 })).await;
    assert_eq!(node.shared().engine().wants(), 0);
}

#[tokio::test]
async fn what_a_list_blocks_is_not_given() {
    let blocked = *block(0, 2_000).cid();
    let metrics = denylist::Metrics::register(&Registry::new()).unwrap();
    let line = format!("/ipfs/{blocked}");
    let denylist = Denylist::of_texts(&[("list", &line)], metrics).unwrap();
    let node = Node::serving(Serve::All, denylist);
    node.hold(1, 2_000);
    let mut peer = Peer::of(&node).await;
    peer.wants(want_blocks(&[blocked])).await;
    assert_eq!(peer.hears_lines(1).await.1, [(blocked, Presence::DontHave)]);
    let kept = node.shared().engine().wants();
    assert_eq!(kept, 0, "nobody waits for it");
}

/// A store in which one block is pinned.
struct OnePinned(Arc<MemoryBlockstore>, Cid);

impl Blockstore for OnePinned {
    fn get<'a>(
        &'a self,
        cid: &'a Cid,
    ) -> futures_util::future::BoxFuture<'a, Result<Option<Block>, StoreError>> {
        self.0.get(cid)
    }
    fn has<'a>(
        &'a self,
        cid: &'a Cid,
    ) -> futures_util::future::BoxFuture<'a, Result<bool, StoreError>> {
        self.0.has(cid)
    }
    fn size<'a>(
        &'a self,
        cid: &'a Cid,
    ) -> futures_util::future::BoxFuture<'a, Result<Option<u64>, StoreError>> {
        self.0.size(cid)
    }
    fn is_pinned<'a>(
        &'a self,
        cid: &'a Cid,
    ) -> futures_util::future::BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(*cid == self.1)))
    }
    fn put_many(
        &self,
        blocks: Vec<Block>,
    ) -> futures_util::future::BoxFuture<'_, Result<(), StoreError>> {
        self.0.put_many(blocks)
    }
}

#[tokio::test]
async fn what_is_served_is_a_policy() {
    let store = Arc::new(MemoryBlockstore::default());
    let (pinned, cached) = (block(1, 2_000), block(2, 2_000));
    let served = Arc::new(OnePinned(Arc::clone(&store), *pinned.cid()));
    store.insert([pinned.clone(), cached.clone()]);
    let node = Node::of(store, served, Serve::Pinned, Denylist::default());
    let mut peer = Peer::of(&node).await;
    peer.wants(want_blocks(&[*pinned.cid(), *cached.cid()])).await;
    let (blocks, presences) = peer.hears_lines(2).await;
    assert_eq!(blocks, [RawBlock::of(pinned.cid(), pinned.data().clone())]);
    assert_eq!(presences, [(*cached.cid(), Presence::DontHave)]);

    let node = Node::serving(Serve::Off, Denylist::default());
    let cids = node.hold(1, 2_000);
    let mut peer = Peer::of(&node).await;
    peer.wants(want_blocks(&cids)).await;
    until("it is heard", || node.bitswap.metrics.messages.get() == 1).await;
    assert_eq!(node.shared().engine().peers(), [], "nothing is kept, and so nothing is answered");
}

/// What they wanted goes with them.
#[tokio::test]
async fn a_peers_wants_go_with_it() {
    let node = Node::new();
    let mut peer = Peer::of(&node).await;
    for part in 0..10u32 {
        let cids: Vec<_> =
            (0..1_000).map(|number| *block(part * 1_000 + number, 4).cid()).collect();
        let silent = |want| Entry { send_dont_have: false, ..want };
        peer.wants(want_blocks(&cids).into_iter().map(silent).collect()).await;
    }
    until("all are heard", || node.shared().metrics.wants_dropped.get() == 10_000 - 1024).await;
    assert_eq!(node.shared().engine().wants(), 1024);
    peer.p2p.disconnect(node.p2p.peer_id()).await;
    until("all are forgotten", || node.shared().engine().peers().is_empty()).await;
    assert_eq!(node.shared().metrics.wants.get(), 0);
    assert!(!node.shared().has_absent.load(Ordering::SeqCst));
}

/// A peer wants much and reads nothing.
#[tokio::test]
async fn who_does_not_read_costs_a_mebibyte_and_loses_its_stream() {
    let node = Node::new();
    let cids = node.hold(1_000, 100_000);
    let mut peer = Peer::of(&node).await;
    peer.wants(want_blocks(&cids)).await;
    let unread = peer.inbound().await;
    let shared = node.shared();
    let outstanding = || OUTSTANDING_BYTES_MAX - shared.budget.available_permits();
    // What can be read ahead has been, and nothing moves any more.
    until("it reads ahead", || outstanding() > (1 << 20) - 110_000).await;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(outstanding() <= 1 << 20, "{}", outstanding());
    }
    assert!(shared.engine().wants() > 900);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    until("the stream is reset", || shared.metrics.stalled.get() == 1).await;
    until("all is given back", || outstanding() == 0 && shared.engine().wants() == 0).await;
    drop(unread);
    // It may come again.
    peer.wants(want_blocks(&cids[..3])).await;
    assert_eq!(peer.hears_lines(3).await.0.len(), 3);
}

/// Many peers want much, read nothing, and hold all memory there is for that.
#[tokio::test]
async fn peers_that_do_not_read_make_room_for_one_that_does() {
    let node = Node::new();
    let cids = node.hold(2, 2 << 20);
    let mut unread = Vec::new();
    // One more would have to wait already.
    for _ in 1..OUTSTANDING_BYTES_MAX >> 21 {
        let mut peer = Peer::of(&node).await;
        peer.wants(want_blocks(&cids)).await;
        let inbound = peer.inbound().await;
        unread.push((peer, inbound));
    }
    let shared = node.shared();
    until("there is no room", || shared.budget.available_permits() < 2 << 20).await;
    let mut peer = Peer::of(&node).await;
    let began = tokio::time::Instant::now();
    peer.wants(want_blocks(&cids[..1])).await;
    assert_eq!(peer.hears_lines(1).await.0.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(shared.metrics.stalled.get() > 0);
}

#[tokio::test]
async fn a_peer_of_2048_wants_is_given_all_that_is_there() {
    let node = Node::new();
    let all: Vec<_> = (0..2048).map(|number| block(number, 3_000)).collect();
    let held: Vec<_> = all.iter().step_by(3).cloned().collect();
    node.store.insert(held.clone());
    let mut peer = Peer::of(&node).await;
    let cids: Vec<_> = all.iter().map(|block| *block.cid()).collect();
    peer.wants(want_blocks(&cids)).await;
    let (blocks, presences) = peer.hears_lines(2048).await;
    assert_eq!((blocks.len(), presences.len()), (held.len(), 2048 - held.len()));
}

/// What is none of the protocol ends its stream and nothing else.
#[tokio::test]
async fn odd_streams_are_closed_and_cost_nobody_else() {
    let node = Node::new();
    let cids = node.hold(1, 2_000);
    let mut peer = Peer::of(&node).await;
    let odd: [&[u8]; 4] = [&[0xff; 10], &[0x81, 0x80, 0x80, 0x02], &[3, 0x0a, 9, 1], &[2, 0x1a, 0]];
    for bytes in odd {
        let (_, mut stream) = peer.p2p.open(node.p2p.peer_id(), &PROTOCOLS).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let end = futures_util::AsyncReadExt::read_to_end(&mut stream, &mut rest);
        let end = timeout(PATIENCE, end).await.unwrap();
        assert!(end.is_err() || rest.is_empty(), "{bytes:?}");
    }
    let (cid, strange) = (*block(5, 10).cid(), RawBlock { hash: 0x9999, ..raw(5) });
    let message = Message {
        wants: vec![Entry { priority: i32::MIN, ..want(WantKind::Block, cids[0]) }],
        blocks: vec![strange, raw(6)],
        presences: vec![(cid, Presence::Have)],
        pending_bytes: i32::MAX as u32,
        ..Message::default()
    };
    peer.courier.send(&Message { full: true, ..Message::default() }).await.unwrap();
    peer.courier.send(&message).await.unwrap();
    assert_eq!(peer.hears_lines(1).await.0.len(), 1);
}

fn raw(number: u32) -> RawBlock {
    let block = block(number, 10);
    RawBlock::of(block.cid(), block.data().clone())
}

/// One peer wants everything; another still gets what it wants, at once.
#[tokio::test]
async fn a_peer_that_wants_everything_leaves_others_their_share() {
    let node = Node::new();
    let cids = node.hold(1_000, 200_000);
    let mut hog = Peer::of(&node).await;
    let mut other = Peer::of(&node).await;
    hog.wants(want_blocks(&cids)).await;
    let taken = Arc::new(AtomicU64::new(0));
    let taking = Arc::clone(&taken);
    hog.hears_lines(5).await;
    node.tasks.spawn(async move {
        while let Ok(Ok(Some(message))) = hog.reads().await {
            taking.fetch_add(message.blocks.len() as u64, Ordering::SeqCst);
        }
    });
    other.wants(want_blocks(&cids[500..510])).await;
    assert_eq!(other.hears_lines(10).await.0.len(), 10);
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken < 300, "{taken} blocks went to the one before 10 to the other");
}

#[tokio::test]
async fn older_peers_are_answered_as_they_speak() {
    let node = Node::new();
    let cids = node.hold(2, 20_000);
    for (protocol, dialect) in [(1, Dialect::V1_1), (3, Dialect::V1_0)] {
        let mut peer = Peer::of(&node).await;
        peer.incoming = peer.p2p.accept(&PROTOCOLS[protocol..=protocol]);
        peer.wants(want_blocks(&cids)).await;
        let inbound = peer.inbound().await;
        assert_eq!(Dialect::of(&inbound.protocol), dialect);
        peer.reader = Some(Reader::new(inbound.stream, Budget::of_peer(), Budget::default()));
        let data: Vec<_> =
            peer.hears_lines(2).await.0.into_iter().map(|block| block.data).collect();
        assert_eq!(data, [0, 1].map(|number| block(number, 20_000).into_data()));
    }
    assert!(node.tasks.stop(Duration::from_secs(5)).await);
}
