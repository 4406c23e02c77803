//! Stories of the client with real connections on loopback.

use std::time::Duration;

use tokio::time::timeout;

use super::super::message::{Message, Presence, RawBlock, WantKind};
use super::super::network::{self, Courier};
use super::super::{Bitswap, PROTOCOLS, Parts, Serve};
use super::*;
use crate::block::{Cid, FetchError, codec};
use crate::denylist::Denylist;
use crate::metrics::Registry;
use crate::p2p::{self, Keypair};
use crate::provider::{FetchContext, Met, Protocol, Protocols, Provider, Want};
use crate::testing::{MemoryBlockstore, traffic};

const PATIENCE: Duration = Duration::from_secs(20);

fn start_p2p(tasks: &Tasks) -> P2p {
    let listen = Some(vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    let config = p2p::Config { listen, bootstrap: Vec::new(), ..p2p::Config::default() };
    P2p::start(&config, Keypair::generate_ed25519(), tasks).unwrap()
}

fn guard() -> Guard {
    Guard::new(&crate::network::Config { allow_private: true })
}

/// A node with a server and a client.
struct Node {
    _tasks: Tasks,
    p2p: P2p,
    store: Arc<MemoryBlockstore>,
    bitswap: Bitswap,
}

impl Node {
    fn new() -> Self {
        let (tasks, store) = (Tasks::new(), Arc::new(MemoryBlockstore::default()));
        let p2p = start_p2p(&tasks);
        let metrics = super::super::Metrics::register(&Registry::new()).unwrap();
        let (served, denylist) = (Arc::clone(&store), Denylist::default());
        let serve = Serve::All;
        let parts = Parts { store: served, denylist, serve, traffic: traffic() };
        let bitswap = Bitswap::start(&p2p, parts, guard(), &tasks, metrics);
        Self { _tasks: tasks, p2p, store, bitswap }
    }

    fn client(&self) -> &Client {
        self.bitswap.client()
    }

    fn shared(&self) -> &Shared {
        &self.client().shared
    }

    /// Nothing is wanted, asked, or kept for anybody.
    async fn is_at_rest(&self) {
        until("the client is at rest", || {
            let wants = lock(&self.shared().wants);
            wants.len() == 0 && wants.is_at_rest()
        })
        .await;
    }
}

fn block(number: u32, bytes: usize) -> Block {
    let mut data = vec![7; bytes];
    data[..4].copy_from_slice(&number.to_be_bytes());
    Block::sha2_256(codec::RAW, data.into()).unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn provider(p2p: &P2p) -> Provider {
    let addresses = timeout(PATIENCE, async {
        loop {
            let addresses = p2p.addresses().await;
            if !addresses.is_empty() {
                return addresses;
            }
            tokio::task::yield_now().await;
        }
    });
    Provider {
        peer: Some(p2p.peer_id()),
        addresses: addresses.await.unwrap(),
        protocols: Protocols::UNKNOWN.with(Protocol::Bitswap),
        found_by: "test",
    }
}

async fn fetch(session: &dyn SourceSession, cid: Cid) -> Result<Block, FetchError> {
    let context = FetchContext { deadline: Instant::now() + PATIENCE, root: None };
    session.fetch(Want { cid }, &context).await
}

/// A peer that does with what it hears whatever it is told to.
struct Fake {
    _tasks: Tasks,
    p2p: P2p,
}

impl Fake {
    /// `answer` makes of each message what is said to it.
    fn new(answer: impl Fn(Message) -> Option<Message> + Clone + Send + Sync + 'static) -> Self {
        let tasks = Tasks::new();
        let p2p = start_p2p(&tasks);
        let (ours, answer) = (p2p.clone(), Arc::new(answer));
        network::listen(&p2p, &tasks, move |peer, message| {
            let (ours, answer) = (ours.clone(), Arc::clone(&answer));
            async move {
                if let Some(said) = answer(message) {
                    drop(Courier::new(ours, peer).send(&said).await);
                }
            }
        });
        Self { _tasks: tasks, p2p }
    }

    fn silent() -> Self {
        Self::new(|_| None)
    }
}

#[tokio::test]
async fn a_block_comes_from_a_provider_that_is_dialled_for_it() {
    let (one, two) = (Node::new(), Node::new());
    let wanted = block(1, 300_000);
    two.store.insert([wanted.clone()]);
    let session = one.client().open();
    assert!(matches!(fetch(&*session, *wanted.cid()).await, Err(FetchError::NotFound(_))));
    assert!(session.add_provider(&provider(&two.p2p).await));
    assert_eq!(fetch(&*session, *wanted.cid()).await.unwrap(), wanted);
    let lacking = *block(2, 10).cid();
    assert!(matches!(fetch(&*session, lacking).await, Err(FetchError::NotFound(_))));
    assert_eq!(session.met(), Met { known: 1, reached: 1, answered: 1, gave: 1 });
    drop(session);
    one.is_at_rest().await;
    // Connected now, it is asked by whoever comes.
    let session = one.client().open();
    assert_eq!(fetch(&*session, *wanted.cid()).await.unwrap(), wanted);
}

#[tokio::test]
async fn providers_of_no_use_are_not_taken_in() {
    let (one, two) = (Node::new(), Node::new());
    let session = one.client().open();
    let good = provider(&two.p2p).await;
    let http = Protocols::UNKNOWN.with(Protocol::Http);
    assert!(!session.add_provider(&Provider { protocols: http, ..good.clone() }));
    assert!(!session.add_provider(&Provider { peer: None, ..good.clone() }));
    assert!(!session.add_provider(&provider(&one.p2p).await), "ourselves");
    let unknown = Provider { protocols: Protocols::UNKNOWN, ..good.clone() };
    assert!(session.add_provider(&unknown));

    let tasks = Tasks::new();
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let guard = Guard::new(&crate::network::Config { allow_private: false });
    let strict = Client::start(start_p2p(&tasks), guard, traffic(), &tasks, metrics).open();
    assert!(!strict.add_provider(&good), "its addresses are private");
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_waited_for_no_longer_than_dialling_takes() {
    let one = Node::new();
    let session = one.client().open();
    let gone = Provider {
        peer: Some(PeerId::random()),
        addresses: vec!["/ip4/127.0.0.1/tcp/60999".parse().unwrap()],
        protocols: Protocols::UNKNOWN,
        found_by: "test",
    };
    assert!(session.add_provider(&gone));
    let outcome = fetch(&*session, *block(1, 10).cid()).await;
    assert!(matches!(outcome, Err(FetchError::NotFound(_))), "{outcome:?}");
    assert_eq!(session.met(), Met { known: 1, reached: 0, answered: 0, gave: 0 });
}

#[tokio::test]
async fn many_blocks_come_from_four_nodes_at_once() {
    let one = Node::new();
    let others: Vec<_> = (0..4).map(|_| Node::new()).collect();
    let blocks: Vec<_> = (0..400).map(|number| block(number, 100_000)).collect();
    let session = one.client().open();
    for other in &others {
        other.store.insert(blocks.clone());
        assert!(session.add_provider(&provider(&other.p2p).await));
    }
    let fetches = blocks.iter().map(|block| fetch(&*session, *block.cid()));
    for (outcome, block) in futures_util::future::join_all(fetches).await.into_iter().zip(&blocks) {
        assert_eq!(&outcome.unwrap(), block);
    }
    let metrics = &one.shared().metrics;
    assert_eq!(metrics.blocks.get(), 400);
    // How few come twice is told in virtual time; here all five share the cores of one machine,
    // and all is wanted before anybody was measured.
    println!("{} blocks came twice", metrics.duplicates.get());
    assert!(metrics.duplicates.get() < 200, "{}", metrics.duplicates.get());
    drop(session);
    one.is_at_rest().await;
    assert_eq!((metrics.sessions.get(), metrics.wants.get()), (0, 0));
}

#[tokio::test]
async fn a_dropped_fetch_is_withdrawn_at_the_peer() {
    let one = Node::new();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::new(move |message| {
        message.wants.into_iter().for_each(|entry| told.send(entry).unwrap());
        None
    });
    let session = one.client().open();
    session.add_provider(&provider(&fake.p2p).await);
    let wanted = *block(1, 10).cid();
    let fetching = fetch(&*session, wanted);
    let asked = tokio::select! {
        outcome = fetching => panic!("{outcome:?}"),
        asked = heard.recv() => asked.unwrap(),
    };
    assert_eq!((asked.cid, asked.kind, asked.cancel), (wanted, WantKind::Block, false));
    assert!(asked.send_dont_have);
    let cancelled = timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
    assert_eq!((cancelled.cid, cancelled.cancel), (wanted, true));
    drop(session);
    one.is_at_rest().await;
}

#[tokio::test]
async fn a_good_peer_serves_promptly_among_thirty_two_silent_ones() {
    let (one, good) = (Node::new(), Node::new());
    let wanted = block(1, 50_000);
    good.store.insert([wanted.clone()]);
    let silent: Vec<_> = (0..32).map(|_| Fake::silent()).collect();
    let session = one.client().open();
    for fake in &silent {
        session.add_provider(&provider(&fake.p2p).await);
    }
    session.add_provider(&provider(&good.p2p).await);
    until("all are reached", || session.met().reached == 33).await;
    let started = Instant::now();
    assert_eq!(fetch(&*session, *wanted.cid()).await.unwrap(), wanted);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}: it waited for the silent ones to time out");
    drop(session);
    one.is_at_rest().await;
}

#[tokio::test]
async fn a_peer_that_sends_what_nobody_asked_for_is_sent_away() {
    let one = Node::new();
    let fake = Fake::silent();
    fake.p2p.connect(one.p2p.peer_id(), &provider(&one.p2p).await.addresses).await.unwrap();
    let mut courier = Courier::new(fake.p2p.clone(), one.p2p.peer_id());
    for number in 0..100 {
        let block = block(number, 1000);
        let blocks = vec![RawBlock::of(block.cid(), block.data().clone())];
        if courier.send(&Message { blocks, ..Message::default() }).await.is_err() {
            break;
        }
    }
    until("it is sent away", || !one.p2p.is_connected(&fake.p2p.peer_id())).await;
    assert_eq!(one.shared().metrics.expelled.get(), 1);
    assert!(one.shared().metrics.unrequested.get() >= 64);
    assert!(one.store.is_empty(), "nothing of it is kept");
}

#[tokio::test]
async fn a_liar_costs_no_request_its_block() {
    let (one, good) = (Node::new(), Node::new());
    let blocks: Vec<_> = (0..50).map(|number| block(number, 40_000)).collect();
    good.store.insert(blocks.clone());
    // It has everything, as it says, and sends something else.
    let liar = Fake::new(|message| {
        let mut said = Message::default();
        for entry in message.wants.iter().filter(|entry| !entry.cancel) {
            match entry.kind {
                WantKind::Have => said.presences.push((entry.cid, Presence::Have)),
                WantKind::Block => said.blocks.push(RawBlock::of(&entry.cid, vec![0; 9].into())),
            }
        }
        Some(said)
    });
    let session = one.client().open();
    session.add_provider(&provider(&liar.p2p).await);
    session.add_provider(&provider(&good.p2p).await);
    until("both are reached", || session.met().reached == 2).await;
    for block in &blocks {
        assert_eq!(&fetch(&*session, *block.cid()).await.unwrap(), block);
    }
}

#[tokio::test]
async fn an_old_peer_gives_blocks_too() {
    let one = Node::new();
    let wanted = block(1, 1000);
    let tasks = Tasks::new();
    let old = start_p2p(&tasks);
    let protocols = [PROTOCOLS[1].clone()];
    let mut incoming = old.accept(&protocols);
    let (ours, given) = (old.clone(), wanted.clone());
    tasks.spawn(async move {
        while let Some(inbound) = incoming.next().await {
            let budgets = (network::Budget::of_peer(), network::Budget::default());
            let mut reader = network::Reader::new(inbound.stream, budgets.0, budgets.1);
            while let Ok(Some(message)) = reader.next().await {
                assert!(message.wants.iter().all(|entry| entry.kind == WantKind::Block));
                let blocks = vec![RawBlock::of(given.cid(), given.data().clone())];
                let message = Message { blocks, ..Message::default() };
                drop(Courier::new(ours.clone(), inbound.peer).send(&message).await);
            }
        }
    });
    let session = one.client().open();
    session.add_provider(&provider(&old).await);
    assert_eq!(fetch(&*session, *wanted.cid()).await.unwrap(), wanted);
}
