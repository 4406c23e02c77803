use proptest::prelude::*;

use super::super::wantlist::WANTS_MAX;
use super::*;
use crate::block::{SHA2_256, codec};

const BIG: Held = Held::Here(SMALL_BYTES_MAX + 1);
const SMALL: Held = Held::Here(SMALL_BYTES_MAX);

fn cid(number: u32) -> Cid {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    Cid::new_v1(codec::RAW, Mh::wrap(SHA2_256, &digest).unwrap())
}

fn block(number: u32) -> Entry {
    let (kind, cid) = (WantKind::Block, cid(number));
    Entry { cid, priority: 1, kind, cancel: false, send_dont_have: true }
}

fn have(number: u32) -> Entry {
    Entry { kind: WantKind::Have, ..block(number) }
}

fn cancel(number: u32) -> Entry {
    Entry { cancel: true, ..block(number) }
}

impl Engine {
    fn hears(&mut self, peer: PeerId, asked: Vec<Asked>) {
        self.note(peer, false, asked, &CancellationToken::new());
    }

    fn jobs(&mut self, peer: &PeerId) -> Vec<Cid> {
        std::iter::from_fn(|| self.next(peer, u32::MAX)).map(|job| job.cid).collect()
    }

    fn tells(&mut self, peer: &PeerId) -> Vec<(Cid, Presence)> {
        let mut told = self.presences(peer);
        told.sort();
        told
    }

    fn finds(&mut self, number: u32, bytes: u32) {
        self.arrived(&mut [(*cid(number).hash(), bytes)].into_iter());
    }

    fn assert_whole(&self) {
        let lists: usize = self.peers.values().map(|peer| peer.list.len()).sum();
        assert_eq!(self.wants, lists);
        let mut absent = 0;
        for (hash, waiting) in &self.absent {
            assert!(!waiting.is_empty());
            absent += waiting.len();
            for (number, key) in waiting {
                let peer = &self.peers[&self.numbers[number]];
                let want = peer.list.get(*key).unwrap();
                assert_eq!((want.hash, want.bytes), (*hash, None));
            }
        }
        let listed = self.peers.values().map(|peer| peer.list.absent_len()).sum::<usize>();
        assert_eq!(absent, listed);
        assert_eq!(self.peers.len(), self.numbers.len());
    }
}

#[test]
fn wants_are_answered_with_blocks_or_presences() {
    let (mut engine, peer) = (Engine::default(), PeerId::random());
    let silent = |entry| Entry { send_dont_have: false, ..entry };
    engine.hears(
        peer,
        vec![
            (block(1), BIG),
            (have(2), BIG),
            (have(3), SMALL),
            (block(4), Held::Absent),
            (have(5), Held::Never),
            (silent(block(6)), Held::Absent),
        ],
    );
    assert_eq!(engine.jobs(&peer), [cid(1), cid(3)]);
    let told = [(2, Presence::Have), (4, Presence::DontHave), (5, Presence::DontHave)];
    assert_eq!(engine.tells(&peer), told.map(|(number, told)| (cid(number), told)));
    assert_eq!(engine.wants(), 2, "what is served is dropped, what is absent waits");
    engine.assert_whole();
}

#[test]
fn what_arrives_goes_to_those_who_wait_for_it() {
    let mut engine = Engine::default();
    let [one, two, three] = [(); 3].map(|()| PeerId::random());
    engine.hears(one, vec![(block(1), Held::Absent), (block(2), Held::Absent)]);
    engine.hears(two, vec![(have(1), Held::Absent)]);
    engine.hears(three, vec![(block(1), Held::Absent), (cancel(1), Held::Never)]);
    for peer in [&one, &two, &three] {
        engine.presences(peer);
    }
    engine.finds(1, 5_000);
    engine.finds(7, 5_000);
    assert_eq!(engine.jobs(&one), [cid(1)]);
    assert_eq!((engine.jobs(&two), engine.tells(&two)), (vec![], vec![(cid(1), Presence::Have)]));
    assert_eq!((engine.jobs(&three), engine.tells(&three)), (vec![], vec![]));
    engine.assert_whole();
}

#[test]
fn a_full_wantlist_takes_the_place_of_the_one_before() {
    let (mut engine, peer) = (Engine::default(), PeerId::random());
    engine.hears(peer, vec![(block(1), BIG), (block(2), Held::Absent)]);
    engine.note(peer, true, vec![(block(3), BIG)], &CancellationToken::new());
    assert_eq!(engine.jobs(&peer), [cid(3)]);
    assert!(engine.tells(&peer).is_empty());
    engine.note(peer, true, Vec::new(), &CancellationToken::new());
    assert_eq!((engine.wants(), engine.has_absent()), (0, false));
    engine.assert_whole();
}

#[test]
fn what_is_on_its_way_is_not_sent_twice() {
    let (mut engine, peer) = (Engine::default(), PeerId::random());
    engine.hears(peer, vec![(block(1), BIG)]);
    let job = engine.next(&peer, u32::MAX).unwrap();
    engine.hears(peer, vec![(block(1), BIG)]);
    assert_eq!(engine.next(&peer, u32::MAX), None);
    engine.sent(&peer, &[job.key], 10);
    assert_eq!(engine.ledger(&peer), Some(Ledger { sent: 10, received: 0 }));
    engine.hears(peer, vec![(block(1), BIG)]);
    assert!(engine.next(&peer, u32::MAX).is_some(), "it asks again, so it needs it again");
}

#[test]
fn a_block_that_went_away_is_told_of_and_waited_for() {
    let (mut engine, peer) = (Engine::default(), PeerId::random());
    engine.hears(peer, vec![(block(1), BIG)]);
    let job = engine.next(&peer, u32::MAX).unwrap();
    engine.missed(&peer, job);
    assert_eq!(engine.tells(&peer), [(cid(1), Presence::DontHave)]);
    engine.finds(1, 10);
    assert_eq!(engine.jobs(&peer), [cid(1)]);
}

#[test]
fn who_waits_for_a_block_may_ask_whether_it_is_there() {
    let (mut engine, peer) = (Engine::default(), PeerId::random());
    engine.hears(peer, vec![(block(1), BIG), (have(1), BIG)]);
    assert_eq!(engine.tells(&peer), [(cid(1), Presence::Have)]);
    assert_eq!(engine.jobs(&peer), [cid(1)]);
}

#[test]
fn both_versions_of_a_cid_can_be_wanted() {
    let (mut engine, peer) = (Engine::default(), PeerId::random());
    let old = Cid::new_v0(*cid(1).hash()).unwrap();
    let asked = vec![(block(1), Held::Absent), (Entry { cid: old, ..block(1) }, Held::Absent)];
    engine.hears(peer, asked);
    engine.finds(1, 10);
    assert_eq!(engine.jobs(&peer), [cid(1), old]);
}

#[test]
fn wants_without_end_are_bounded_and_gone_with_their_peers() {
    let mut engine = Engine::default();
    let peer = PeerId::random();
    for part in 0..10 {
        let wants = (0..10_000).map(|number| (block(part * 10_000 + number), Held::Absent));
        engine.hears(peer, wants.collect());
        assert_eq!((engine.wants(), engine.absent.len()), (WANTS_MAX, WANTS_MAX));
        assert!(engine.peers[&peer].presences.len() <= PRESENCES_MAX);
    }
    let peers: Vec<_> = (0..100).map(|_| PeerId::random()).collect();
    for peer in &peers {
        engine.hears(*peer, (0..1_100).map(|number| (block(number), Held::Absent)).collect());
    }
    assert_eq!(engine.wants(), 101 * WANTS_MAX);
    for peer in peers.iter().chain([&peer]) {
        engine.remove(peer);
        engine.assert_whole();
    }
    assert_eq!((engine.wants(), engine.absent.len()), (0, 0));
    assert!(engine.peers.is_empty() && engine.numbers.is_empty());
}

/// Wants that can be served are never let go of for those that cannot.
#[test]
fn of_2048_wants_all_that_are_there_are_served() {
    let (mut engine, peer) = (Engine::default(), PeerId::random());
    let is_here = |number: u32| number.wrapping_mul(2_654_435_761).is_multiple_of(3);
    let wants =
        (0..2048).map(|number| (block(number), if is_here(number) { BIG } else { Held::Absent }));
    engine.hears(peer, wants.collect());
    let expected: Vec<_> = (0..2048).filter(|number| is_here(*number)).map(cid).collect();
    assert!(expected.len() > 600);
    assert_eq!(engine.jobs(&peer), expected);
}

#[derive(Debug, Clone)]
enum Step {
    Hears(usize, bool, Vec<(u32, bool, bool, Held)>),
    Finds(u32),
    Sends(usize),
    Misses(usize),
    Removes(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let held = prop_oneof![Just(BIG), Just(SMALL), Just(Held::Absent), Just(Held::Never)];
    let wants = prop::collection::vec((0..20u32, any::<bool>(), any::<bool>(), held), 0..8);
    prop_oneof![
        4 => (0..3usize, any::<bool>(), wants).prop_map(|(peer, full, wants)| {
            Step::Hears(peer, full, wants)
        }),
        2 => (0..20u32).prop_map(Step::Finds),
        2 => (0..3usize).prop_map(Step::Sends),
        1 => (0..3usize).prop_map(Step::Misses),
        1 => (0..3usize).prop_map(Step::Removes),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_lists_and_the_index_agree(
        steps in prop::collection::vec(steps(), 0..60),
    ) {
        let (mut engine, peers) = (Engine::default(), [(); 3].map(|()| PeerId::random()));
        for step in steps {
            match step {
                Step::Hears(peer, full, wants) => {
                    let entry = |(number, is_block, cancel, held)| {
                        let entry = if is_block { block(number) } else { have(number) };
                        (Entry { cancel, ..entry }, held)
                    };
                    let wants = wants.into_iter().map(entry).collect();
                    engine.note(peers[peer], full, wants, &CancellationToken::new());
                }
                Step::Finds(number) => engine.finds(number, 10),
                Step::Sends(peer) => {
                    if let Some(job) = engine.next(&peers[peer], u32::MAX) {
                        engine.sent(&peers[peer], &[job.key], 1);
                    }
                }
                Step::Misses(peer) => {
                    if let Some(job) = engine.next(&peers[peer], u32::MAX) {
                        engine.missed(&peers[peer], job);
                    }
                }
                Step::Removes(peer) => engine.remove(&peers[peer]),
            }
            engine.assert_whole();
        }
    }
}
