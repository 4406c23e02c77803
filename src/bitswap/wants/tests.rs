//! The wants, event by event.

mod simulated;

use std::collections::BTreeMap;

use multihash_codetable::{Code, MultihashDigest};

use super::*;
use crate::bitswap::message::WantKind;
use crate::block::codec;

/// A CID for a number.
pub(super) fn cid(n: u64) -> Cid {
    let digest = Code::Sha2_256.digest(&n.to_be_bytes());
    Cid::new_v1(codec::RAW, Mh::wrap(0x12, digest.digest()).unwrap())
}

/// A peer for a number; the same each time.
fn peer(n: u8) -> PeerId {
    let key = libp2p_identity::Keypair::ed25519_from_bytes([n; 32]).unwrap();
    key.public().to_peer_id()
}

/// What a peer is told: `B` block, `H` have, `-` cancel, each with the number of the CID.
type Told = Vec<(char, u64)>;

struct Table {
    wants: Wants<u32>,
    now: Instant,
    numbers: BTreeMap<Cid, u64>,
}

impl Table {
    fn new() -> Self {
        let numbers = (0..3000).map(|n| (cid(n), n)).collect();
        Self { wants: Wants::default(), now: Instant::now(), numbers }
    }

    /// With these peers connected, which speak of presences.
    fn with(peers: &[u8]) -> Self {
        let mut table = Self::new();
        for n in peers {
            table.wants.connected(peer(*n), Some(Speaks::Presences), table.now);
        }
        table
    }

    fn want(&mut self, session: SessionId, n: u64) -> Ticket {
        let waiter = (u32::try_from(n).unwrap(), Patience::UntilAllLack);
        self.wants.want(session, cid(n), waiter, self.now)
    }

    fn told(&mut self, n: u8) -> Told {
        let Some((Some(message), _)) = self.wants.take(&peer(n), true) else { return Vec::new() };
        let letter = |entry: &crate::bitswap::message::Entry| match entry.kind {
            _ if entry.cancel => '-',
            WantKind::Block => 'B',
            WantKind::Have => 'H',
        };
        message.wants.iter().map(|entry| (letter(entry), self.numbers[&entry.cid])).collect()
    }

    fn says(&mut self, n: u8, said: Presence, block: u64) {
        self.wants.presence(peer(n), &cid(block), said, self.now);
    }

    fn gives(&mut self, n: u8, block: u64) -> Arrival<u32> {
        self.wants.block(peer(n), cid(block).hash(), 256 << 10, self.now)
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += Duration::from_millis(25).min(end - self.now);
            self.wants.tick(self.now);
        }
    }

    fn lost(&mut self) -> Vec<u32> {
        self.wants.effects().lost
    }

    /// Answers that are remembered.
    fn presences(&self) -> usize {
        self.wants.wants.values().map(|want| want.asked.len()).sum()
    }

    fn is_clean(&self) -> bool {
        let peers = self.wants.peers.values();
        let lines: usize = peers.map(|peer| peer.wantlist.len() + peer.blocks.len()).sum();
        let haves: usize = self.wants.peers.values().map(|peer| peer.haves.len()).sum();
        let wants = self.wants.wants.len() + self.wants.by_hash.len() + self.wants.parked.len();
        (lines, haves, wants, self.wants.sessions.len()) == (0, 0, 0, 0)
    }
}

/// The one peer among these that is told `B`.
fn asked_for_block(told: &[(u8, Told)], block: u64) -> u8 {
    let asked = told.iter().filter(|(_, told)| told.contains(&('B', block)));
    let asked: Vec<u8> = asked.map(|(n, _)| *n).collect();
    assert_eq!(asked.len(), 1, "{told:?}");
    asked[0]
}

#[test]
fn with_one_peer_the_block_is_wanted_at_once_and_arrives_in_one_round() {
    let mut table = Table::with(&[1]);
    let session = table.wants.open();
    table.want(session, 1);
    assert_eq!(table.told(1), [('B', 1)]);
    assert_eq!(table.gives(1, 1), Arrival::Wanted(vec![1]));
    assert!(table.told(1).is_empty(), "what a peer served it is not told to forget");
    table.wants.close(session);
    assert!(table.is_clean());
}

#[test]
fn nobody_known_or_all_lacking_is_not_found_at_once() {
    let mut table = Table::new();
    let session = table.wants.open();
    table.want(session, 1);
    assert_eq!(table.lost(), [1]);
    let mut table = Table::with(&[1, 2]);
    let session = table.wants.open();
    table.want(session, 1);
    table.says(1, Presence::DontHave, 1);
    assert!(table.lost().is_empty());
    table.says(2, Presence::DontHave, 1);
    assert_eq!(table.lost(), [1]);
    // Both keep lacking wants on their lists: they are told to forget them.
    table.wants.close(session);
    for n in [1, 2] {
        table.told(n);
    }
    assert!(table.is_clean());
}

#[test]
fn who_lacks_a_block_keeps_the_want_and_tells_when_it_comes_by_it() {
    let mut table = Table::with(&[1, 2]);
    let session = table.wants.open();
    let late = (7, Patience::WhileKept);
    table.wants.want(session, cid(7), late, table.now);
    let told: Vec<_> = [1, 2].map(|n| (n, table.told(n))).into();
    let first = asked_for_block(&told, 7);
    let other = 3 - first;
    table.says(1, Presence::DontHave, 7);
    table.says(2, Presence::DontHave, 7);
    table.want(session, 7);
    assert_eq!(table.lost(), [7], "who waits for no more than answers has them");
    assert!(table.told(1).is_empty() && table.told(2).is_empty(), "nobody is asked twice");
    // Whoever connects meanwhile is asked, too.
    table.wants.connected(peer(3), Some(Speaks::Presences), table.now);
    assert_eq!(table.told(3), [('B', 7)]);
    table.says(3, Presence::DontHave, 7);
    table.wants.disconnected(peer(first), table.now);
    table.says(other, Presence::Have, 7);
    assert_eq!(table.told(other), [('B', 7)]);
    assert_eq!(table.gives(other, 7), Arrival::Wanted(vec![7]));
    table.wants.close(session);
    table.told(3);
    assert!(table.lost().is_empty() && table.is_clean());
}

#[test]
fn a_block_that_all_lack_is_waited_for_no_longer_than_somebody_keeps_the_want() {
    let mut table = Table::with(&[1]);
    let session = table.wants.open();
    table.wants.want(session, cid(7), (7, Patience::WhileKept), table.now);
    table.told(1);
    table.says(1, Presence::DontHave, 7);
    assert!(table.lost().is_empty());
    table.wants.disconnected(peer(1), table.now);
    assert_eq!(table.lost(), [7]);
    // With nobody there is nothing to wait for; whoever has not said what it speaks may yet ask.
    table.wants.want(session, cid(8), (8, Patience::WhileKept), table.now);
    assert_eq!(table.lost(), [8]);
    table.wants.connected(peer(2), None, table.now);
    table.wants.want(session, cid(9), (9, Patience::WhileKept), table.now);
    assert!(table.lost().is_empty());
    table.wants.connected(peer(2), Some(Speaks::Presences), table.now);
    assert_eq!(table.told(2), [('B', 9)]);
}

#[test]
fn deeds_tell_what_each_peer_gave_and_how_it_failed() {
    let mut table = Table::with(&[1, 2]);
    let session = table.wants.open();
    table.wants.named(session, peer(3), table.now);
    table.wants.not_reached(session, &peer(3), table.now);
    table.want(session, 1);
    let told: Vec<_> = [1, 2].map(|n| (n, table.told(n))).into();
    let first = asked_for_block(&told, 1);
    table.gives(first, 1);
    table.want(session, 2);
    table.wants.disconnected(peer(first), table.now);
    let deeds = table.wants.deeds(session);
    let of = |n: u8| {
        let deed = deeds.iter().find(|deed| deed.who == ProviderId::Peer(peer(n)));
        deed.map(|deed| (deed.blocks, deed.bytes, deed.failures))
    };
    assert_eq!(of(first), Some((1, 256 << 10, 1)), "{deeds:?}");
    assert_eq!(of(3), Some((0, 0, 1)));
    assert_eq!(of(3 - first), None, "it did nothing");
}

#[test]
fn one_is_asked_for_the_block_and_the_others_whether_they_have_it() {
    let mut table = Table::with(&[1, 2, 3]);
    let session = table.wants.open();
    table.want(session, 7);
    let told: Vec<_> = [1, 2, 3].map(|n| (n, table.told(n))).into();
    let first = asked_for_block(&told, 7);
    assert_eq!(told.iter().filter(|(_, told)| told.contains(&('H', 7))).count(), 2);
    // It lacks it; one of the others has it, and is asked at once.
    let other = [1, 2, 3].into_iter().find(|n| *n != first).unwrap();
    table.says(first, Presence::DontHave, 7);
    table.says(other, Presence::Have, 7);
    assert_eq!(table.told(other), [('B', 7)]);
    assert_eq!(table.gives(other, 7), Arrival::Wanted(vec![7]));
    // Whoever else was asked is told that it is over.
    let third = [1, 2, 3].into_iter().find(|n| *n != first && *n != other).unwrap();
    assert_eq!(table.told(third), [('-', 7)]);
    // From now on the proven one is asked straight away, and the rest a little by the way.
    table.want(session, 8);
    let told: Vec<_> = [1, 2, 3].map(|n| (n, table.told(n))).into();
    assert_eq!(asked_for_block(&told, 8), other);
}

#[test]
fn a_broadcast_is_bounded_and_prefers_who_gave_and_who_is_favoured() {
    let all: Vec<u8> = (1..=60).collect();
    let mut table = Table::with(&all);
    table.wants.favour(&peer(41), true);
    let session = table.wants.open();
    let first = table.want(session, 1);
    assert_eq!(table.told(41), [('B', 1)]);
    let asked = all.iter().filter(|n| !table.told(**n).is_empty()).count();
    assert_eq!(asked, BROADCAST_MAX);
    table.wants.unwant(&first);
    table.want(session, 2);
    assert!(matches!(table.gives(17, 2), Arrival::Wanted(_)));
    table.wants.close(session);
    all.iter().for_each(|n| drop(table.told(*n)));
    assert!(table.is_clean());
    let session = table.wants.open();
    table.want(session, 3);
    assert_eq!(table.told(17), [('B', 3)]);
}

#[test]
fn a_want_with_a_provider_on_the_way_waits_for_it() {
    let mut table = Table::new();
    let session = table.wants.open();
    assert!(table.wants.named(session, peer(1), table.now).is_new);
    assert!(table.wants.named(session, peer(2), table.now).is_in);
    table.want(session, 1);
    assert!(table.lost().is_empty());
    table.wants.not_reached(session, &peer(1), table.now);
    assert!(table.lost().is_empty());
    // What it speaks is not known yet, and it is asked all the same.
    table.wants.connected(peer(2), None, table.now);
    assert_eq!(table.told(2), [('B', 1)]);
    table.wants.disconnected(peer(2), table.now);
    assert_eq!(table.lost(), [1]);
    let met = table.wants.met(session);
    assert_eq!((met.known, met.reached, met.answered, met.gave), (2, 1, 0, 0));
}

#[test]
fn a_peer_that_comes_while_others_are_asked_is_asked_too() {
    let mut table = Table::with(&[1]);
    let session = table.wants.open();
    table.want(session, 1);
    table.told(1);
    table.wants.connected(peer(2), None, table.now);
    assert!(table.told(2).is_empty(), "it is not known to speak Bitswap");
    table.wants.connected(peer(2), Some(Speaks::Presences), table.now);
    table.says(1, Presence::DontHave, 1);
    assert_eq!(table.told(2).last(), Some(&('B', 1)));
}

#[test]
fn sessions_share_a_want_and_the_last_to_leave_cancels() {
    let mut table = Table::with(&[1]);
    let (one, two) = (table.wants.open(), table.wants.open());
    let first = table.want(one, 1);
    table.want(two, 1);
    assert_eq!(table.told(1), [('B', 1)]);
    table.wants.unwant(&first);
    assert!(table.told(1).is_empty());
    table.wants.close(two);
    assert_eq!(table.told(1), [('-', 1)]);
    table.wants.close(one);
    assert!(table.is_clean());
}

#[test]
fn both_askers_get_the_block_whatever_cid_they_asked_by() {
    let mut table = Table::with(&[1]);
    let (one, two) = (table.wants.open(), table.wants.open());
    table.want(one, 1);
    let other_codec = Cid::new_v1(codec::DAG_PB, *cid(1).hash());
    table.wants.want(two, other_codec, (2, Patience::UntilAllLack), table.now);
    assert_eq!(table.told(1).len(), 1);
    assert_eq!(table.gives(1, 1), Arrival::Wanted(vec![1, 2]));
}

#[test]
fn a_new_session_is_not_served_behind_all_that_another_wants() {
    let mut table = Table::with(&[1]);
    let (big, small) = (table.wants.open(), table.wants.open());
    for n in 0..100 {
        table.want(big, n);
    }
    table.told(1);
    for n in 0..10 {
        table.gives(1, n);
    }
    table.want(small, 500);
    table.want(big, 100);
    let (message, _) = table.wants.take(&peer(1), true).unwrap();
    let wants = message.unwrap().wants;
    assert_eq!(table.numbers[&wants[0].cid], 500);
    let serial = |n: u64| *table.wants.by_hash.get(cid(n).hash()).unwrap();
    assert!(wants[0].priority > serial(20).priority(), "it comes before most of the big one");
    assert!(wants[1].priority < serial(99).priority(), "order within a session stays");
}

#[test]
fn a_silent_peer_is_given_up_after_its_time_and_never_after_more_than_ten_seconds() {
    let mut table = Table::with(&[1]);
    let session = table.wants.open();
    table.want(session, 1);
    table.told(1);
    table.pass(4_900);
    assert!(table.lost().is_empty());
    table.pass(200);
    assert_eq!(table.lost(), [1]);
    assert_eq!(table.told(1), [('-', 1)]);
    // The next time it has less credit.
    table.want(session, 2);
    table.pass(1_100);
    assert_eq!(table.lost(), [2]);
    assert_eq!(table.wants.take_timeouts(), 2);
}

#[test]
fn an_old_peer_is_asked_for_blocks_alone_and_silence_means_absence() {
    let mut table = Table::new();
    for n in [1, 2] {
        table.wants.connected(peer(n), Some(Speaks::Blocks), table.now);
    }
    table.wants.connected(peer(3), Some(Speaks::Presences), table.now);
    let session = table.wants.open();
    table.want(session, 1);
    assert_eq!((table.told(1), table.told(2)), (vec![], vec![]));
    table.says(3, Presence::DontHave, 1);
    let told: Vec<_> = [1, 2].map(|n| (n, table.told(n))).into();
    let first = asked_for_block(&told, 1);
    table.pass(5_100);
    let second = 3 - first;
    assert_eq!(table.told(second), [('B', 1)]);
    assert!(table.lost().is_empty());
    table.pass(5_100);
    assert_eq!(table.lost(), [1]);
}

#[test]
fn a_disconnect_asks_others_and_a_reconnect_tells_all_again() {
    let mut table = Table::with(&[1, 2]);
    let session = table.wants.open();
    table.want(session, 1);
    let told: Vec<_> = [1, 2].map(|n| (n, table.told(n))).into();
    let first = asked_for_block(&told, 1);
    let second = 3 - first;
    table.says(second, Presence::Have, 1);
    table.wants.disconnected(peer(first), table.now);
    assert_eq!(table.told(second), [('B', 1)]);
    table.wants.broken(peer(second));
    let (message, _) = table.wants.take(&peer(second), true).unwrap();
    let message = message.unwrap();
    assert!(message.full && message.wants.len() == 1);
}

#[test]
fn what_nobody_asked_for_is_borne_within_a_budget() {
    let mut table = Table::with(&[1, 2]);
    for n in 0..64 {
        assert_eq!(table.gives(1, n), Arrival::Unrequested);
        assert!(table.wants.effects().expelled.is_empty());
    }
    table.gives(1, 64);
    assert_eq!(table.wants.effects().expelled, [peer(1)]);
    // By bytes, too.
    for _ in 0..9 {
        table.wants.stray(peer(2), None, 2 << 20, table.now);
    }
    assert_eq!(table.wants.effects().expelled, [peer(2)]);
}

#[test]
fn a_block_that_comes_after_its_cancel_is_no_offence() {
    let mut table = Table::with(&[1]);
    let session = table.wants.open();
    for n in 0..200 {
        let ticket = table.want(session, n);
        table.told(1);
        table.wants.unwant(&ticket);
        assert_eq!(table.gives(1, n), Arrival::Duplicate);
    }
    assert!(table.wants.effects().expelled.is_empty());
    assert_eq!(table.gives(1, 7), Arrival::Unrequested, "once, not for ever");
}

#[test]
fn wrong_bytes_send_the_want_to_another_at_once() {
    let mut table = Table::with(&[1, 2]);
    let session = table.wants.open();
    table.want(session, 1);
    let told: Vec<_> = [1, 2].map(|n| (n, table.told(n))).into();
    let liar = asked_for_block(&told, 1);
    let honest = 3 - liar;
    table.says(honest, Presence::Have, 1);
    assert_eq!(table.gives(liar, 999), Arrival::Unrequested);
    assert_eq!(table.told(honest), [('B', 1)]);
    table.gives(honest, 1);
    // It is trusted with nothing more that another has.
    for n in 10..20 {
        table.want(session, n);
    }
    assert_eq!(table.told(liar).iter().filter(|(kind, _)| *kind == 'B').count(), 0);
}

#[test]
fn what_a_peer_has_is_not_heard_of_what_it_was_not_asked() {
    let mut table = Table::with(&[1]);
    let session = table.wants.open();
    table.want(session, 1);
    for n in 2..1000 {
        table.says(1, Presence::Have, n);
    }
    table.wants.presence(peer(9), &cid(1), Presence::Have, table.now);
    assert_eq!(table.presences(), 1);
}

#[test]
fn more_wants_than_a_wantlist_holds_wait_for_room() {
    let mut table = Table::with(&[1]);
    let session = table.wants.open();
    for n in 0..2500 {
        table.want(session, n);
    }
    assert_eq!(table.told(1).len(), wantlist::LINES_MAX);
    let other = table.wants.open();
    table.want(other, 2999);
    assert!(table.lost().is_empty(), "it waits, too");
    let mut given = 0;
    for n in (0..2500).chain([2999]) {
        given += usize::from(matches!(table.gives(1, n), Arrival::Wanted(_)));
        assert!(table.wants.peers[&peer(1)].wantlist.len() <= wantlist::LINES_MAX);
        table.told(1);
    }
    assert_eq!(given, 2501);
    table.wants.close(session);
    table.wants.close(other);
    assert!(table.is_clean());
}

#[test]
fn a_closed_session_leaves_nothing_behind() {
    let mut table = Table::with(&[1, 2, 3, 4]);
    for round in 0..50 {
        let session = table.wants.open();
        table.wants.named(session, peer(9), table.now);
        for n in 0..40 {
            table.want(session, round * 10 + n);
        }
        table.says(1, Presence::Have, round * 10);
        table.says(2, Presence::DontHave, round * 10 + 1);
        table.gives(3, round * 10 + 2);
        table.wants.close(session);
        for n in 1..=4 {
            table.told(n);
        }
        assert!(table.is_clean());
        assert_eq!(table.presences(), 0);
    }
    assert_eq!(table.wants.peers.len(), 4);
}
