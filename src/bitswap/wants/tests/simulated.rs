//! Whole transfers in virtual time: peers with latency and bandwidth, good and bad.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use super::*;
use crate::bitswap::message::{Entry, WantKind};

const MIB: u64 = 1 << 20;

/// How a peer behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// It takes wants and never says anything.
    Silent,
    /// It says HAVE, and then nothing.
    Dead,
    /// It says HAVE, and sends other bytes.
    Lying,
    /// It has none of the blocks, and says so.
    Lacking,
    /// It has every second block.
    Half,
}

/// A peer as it is.
#[derive(Debug, Clone)]
struct Far {
    manner: Manner,
    /// One way, in milliseconds.
    latency: u64,
    /// Bytes a second.
    rate: u64,
    /// What it is to serve, the highest priority first; then in the order it came.
    queue: BTreeMap<(Reverse<i32>, u64), u64>,
    is_sending: bool,
    sent: u64,
}

impl Far {
    fn new(manner: Manner, latency: u64, rate: u64) -> Self {
        Self { manner, latency, rate, queue: BTreeMap::new(), is_sending: false, sent: 0 }
    }

    fn has(&self, block: u64) -> bool {
        match self.manner {
            Manner::Lacking => false,
            Manner::Half => block.is_multiple_of(2),
            _ => true,
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Entries reach a peer: block, priority, kind, cancel.
    Told(u8, Vec<(u64, i32, bool, bool)>),
    /// A peer has sent a block, and begins with the next.
    Sent(u8, u64),
    /// An answer reaches us.
    Block(u8, u64),
    Presence(u8, u64, bool),
    Tick,
}

/// A transfer.
struct World {
    table: Table,
    far: BTreeMap<u8, Far>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Since the start, in microseconds.
    now: u64,
    start: Instant,
    serial: u64,
    block_bytes: u64,
    duplicates: u64,
    found: BTreeSet<u64>,
    lost: VecDeque<u64>,
}

impl World {
    fn new(block_bytes: u64, far: Vec<Far>) -> Self {
        let far: BTreeMap<u8, Far> = (1..).zip(far).collect();
        let peers: Vec<u8> = far.keys().copied().collect();
        let table = Table::with(&peers);
        let start = table.now;
        let (events, found, lost) = (BinaryHeap::new(), BTreeSet::new(), VecDeque::new());
        let (now, serial, duplicates) = (0, 0, 0);
        Self { table, far, events, now, start, serial, block_bytes, duplicates, found, lost }
    }

    fn at(&mut self, us: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((us, self.serial, event)));
    }

    /// Tells every peer what changed.
    fn flush(&mut self) {
        let peers: Vec<u8> = self.far.keys().copied().collect();
        for n in peers {
            let Some((Some(message), _)) = self.table.wants.take(&peer(n), true) else { continue };
            let entry = |entry: &Entry| {
                let is_block = entry.kind == WantKind::Block;
                (self.table.numbers[&entry.cid], entry.priority, is_block, entry.cancel)
            };
            let entries = message.wants.iter().map(entry).collect();
            let arrives = self.now + 1000 * self.far[&n].latency;
            self.at(arrives, Event::Told(n, entries));
        }
        let effects = self.table.wants.effects();
        self.lost.extend(effects.lost.into_iter().map(u64::from));
        for gone in effects.expelled {
            self.table.wants.disconnected(gone, self.table.now);
            self.far.retain(|n, _| peer(*n) != gone);
        }
    }

    fn send_next(&mut self, n: u8) {
        let Some(far) = self.far.get_mut(&n) else { return };
        if far.is_sending {
            return;
        }
        if let Some((_, block)) = far.queue.pop_first() {
            far.is_sending = true;
            let done = self.now + self.block_bytes * 1_000_000 / far.rate;
            self.at(done, Event::Sent(n, block));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Told(n, entries) => {
                for (block, priority, is_block, cancel) in entries {
                    self.serial += 1;
                    let serial = self.serial;
                    let Some(far) = self.far.get_mut(&n) else { return };
                    let answer = self.now + 1000 * far.latency;
                    let has = far.has(block);
                    let is_mute = matches!(far.manner, Manner::Silent);
                    if cancel {
                        far.queue.retain(|_, queued| *queued != block);
                    } else if is_mute || (far.manner == Manner::Dead && is_block) {
                    } else if !has || !is_block {
                        self.at(answer, Event::Presence(n, block, has));
                    } else {
                        far.queue.insert((Reverse(priority), serial), block);
                    }
                }
                self.send_next(n);
            }
            Event::Sent(n, block) => {
                let Some(far) = self.far.get_mut(&n) else { return };
                far.is_sending = false;
                far.sent += 1;
                let arrives = self.now + 1000 * far.latency;
                self.at(arrives, Event::Block(n, block));
                self.send_next(n);
            }
            Event::Block(n, block) => {
                let is_lie = self.far.get(&n).is_none_or(|far| far.manner == Manner::Lying);
                let hash = *if is_lie { cid(2999) } else { cid(block) }.hash();
                let bytes = usize::try_from(self.block_bytes).unwrap();
                let now = self.table.now;
                match self.table.wants.block(peer(n), &hash, bytes, now) {
                    Arrival::Wanted(_) => drop(self.found.insert(block)),
                    Arrival::Duplicate => self.duplicates += 1,
                    Arrival::Unrequested => {}
                }
            }
            Event::Presence(n, block, has) => {
                let said = if has { Presence::Have } else { Presence::DontHave };
                self.table.says(n, said, block);
            }
            Event::Tick => {
                self.table.wants.tick(self.table.now);
                self.at(self.now + 25_000, Event::Tick);
            }
        }
    }

    /// Fetches a root and then `blocks` blocks in order, at most `window` of them at a time; in
    /// how many seconds.
    fn fetch(&mut self, blocks: u64, window: u64) -> f64 {
        let session = self.table.wants.open();
        let began = self.now;
        self.at(self.now, Event::Tick);
        self.found.clear();
        let (mut wanted, mut read) = (0, 0);
        while read < blocks {
            // The root alone first, as when a path is walked.
            let ahead = if read == 0 { 1 } else { window };
            while wanted < blocks.min(read + ahead) {
                self.table.want(session, wanted);
                wanted += 1;
            }
            self.flush();
            // What happens at one time happens before anybody is told.
            let Reverse((at, ..)) = *self.events.peek().unwrap();
            self.now = at;
            self.table.now = self.start + Duration::from_micros(at);
            while self.events.peek().is_some_and(|Reverse((next, ..))| *next == at) {
                let Reverse((_, _, event)) = self.events.pop().unwrap();
                self.happen(event);
            }
            let lost = std::mem::take(&mut self.table.wants.effects.lost);
            self.lost.extend(lost.into_iter().map(u64::from));
            while let Some(lost) = self.lost.pop_front() {
                self.table.want(session, lost);
            }
            while self.found.contains(&read) {
                read += 1;
            }
            assert!(self.now - began < 600_000_000, "{read} of {blocks} after 10 minutes");
        }
        self.table.wants.close(session);
        self.events.retain(|Reverse((_, _, event))| *event != Event::Tick);
        self.flush();
        assert_eq!(self.table.presences(), 0);
        (self.now - began) as f64 / 1e6
    }
}

/// Fetches 1,500 blocks from these peers: MiB a second, and the share of blocks sent in vain.
fn fetch(block_bytes: u64, window: u64, far: Vec<Far>) -> (f64, f64) {
    let mut world = World::new(block_bytes, far);
    let blocks = 1500;
    let seconds = world.fetch(blocks, window);
    let rate = (blocks * block_bytes) as f64 / MIB as f64 / seconds;
    let vain = world.duplicates as f64 / blocks as f64;
    println!("{rate:.1} MiB/s, {:.1} % in vain", 100.0 * vain);
    (rate, vain)
}

#[test]
fn one_peer_is_used_to_its_full_rate() {
    for (block_bytes, latency) in [(MIB, 1), (MIB, 40), (256 << 10, 1), (16 << 10, 10)] {
        let (rate, vain) = fetch(block_bytes, 256, vec![Far::new(Manner::Good, latency, 50 * MIB)]);
        let bound = (256 * block_bytes) as f64 / MIB as f64 / (2.0 * latency as f64 / 1000.0);
        assert!(rate > 0.9 * bound.min(50.0), "{rate} with {block_bytes}, {latency} ms");
        assert_eq!(vain, 0.0);
    }
}

#[test]
fn four_unequal_peers_together_give_nearly_the_sum_of_their_rates() {
    let far = |n, latency| Far::new(Manner::Good, latency, n * MIB);
    for window in [64, 256, 1000] {
        let (rate, vain) =
            fetch(MIB, window, vec![far(80, 2), far(40, 10), far(20, 30), far(5, 80)]);
        assert!(rate > 0.9 * 145.0, "{rate} with {window}");
        assert!(vain < 0.05, "{vain}");
        let (rate, vain) =
            fetch(256 << 10, window, vec![far(80, 2), far(40, 10), far(20, 30), far(5, 80)]);
        assert!(rate > 0.9 * if window == 64 { 100.0 } else { 145.0 }, "{rate} with {window}");
        assert!(vain < 0.05, "{vain}");
    }
}

#[test]
fn a_dead_a_lying_and_a_slow_peer_cost_less_than_a_tenth() {
    let good = || vec![Far::new(Manner::Good, 5, 50 * MIB), Far::new(Manner::Good, 10, 30 * MIB)];
    let (alone, _) = fetch(MIB, 64, good());
    let bad = [
        Far::new(Manner::Dead, 3, 50 * MIB),
        Far::new(Manner::Lying, 4, 50 * MIB),
        Far::new(Manner::Good, 100, MIB),
        Far::new(Manner::Silent, 5, MIB),
    ];
    for far in bad.clone() {
        let manner = far.manner;
        let (with_one, _) = fetch(MIB, 64, good().into_iter().chain([far]).collect());
        assert!(with_one > 0.9 * alone, "{with_one} with {manner:?} beside {alone}");
    }
    let (with_bad, vain) = fetch(MIB, 64, good().into_iter().chain(bad).collect());
    assert!(with_bad > 0.9 * alone, "{with_bad} beside {alone}");
    assert!(vain < 0.05, "{vain}");
}

#[test]
fn thirty_two_silent_peers_and_a_good_one_and_the_good_one_serves_promptly() {
    let silent = |_| Far::new(Manner::Silent, 1, MIB);
    let good = Far::new(Manner::Good, 1, 50 * MIB);
    let far: Vec<_> = (0..32).map(silent).chain([good]).collect();
    let mut world = World::new(256 << 10, far);
    let first = world.fetch(1, 1);
    assert!(first < 0.15, "{first}");
    let second = world.fetch(2, 1);
    assert!(second < 0.15, "{second}");
}

#[test]
fn peers_that_have_half_each_and_peers_that_lack_all_are_used_for_what_they_have() {
    let half = |latency| Far::new(Manner::Half, latency, 40 * MIB);
    let lacking = |_| Far::new(Manner::Lacking, 2, 40 * MIB);
    let far = (0..8).map(lacking).chain([half(5), Far::new(Manner::Good, 5, 20 * MIB)]).collect();
    let (rate, vain) = fetch(256 << 10, 256, far);
    assert!(rate > 30.0, "{rate}");
    assert!(vain < 0.05, "{vain}");
}

#[test]
fn a_peer_that_becomes_slow_in_the_middle_is_relieved() {
    let mut world = World::new(
        MIB,
        vec![Far::new(Manner::Good, 5, 60 * MIB), Far::new(Manner::Good, 10, 40 * MIB)],
    );
    world.fetch(200, 64);
    world.far.get_mut(&1).unwrap().rate = MIB;
    let seconds = world.fetch(1000, 64);
    let rate = 1000.0 / seconds;
    assert!(rate > 0.85 * 41.0, "{rate}");
    assert!(world.duplicates < 50, "{}", world.duplicates);
}
