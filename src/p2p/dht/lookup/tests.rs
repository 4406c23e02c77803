use std::collections::VecDeque;

use tokio::time::Instant;

use super::*;
use crate::p2p::dht::table::Table;

/// What a peer of the simulation does when it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// It never answers.
    Dead,
    /// It names only others of its kind, be they near or not.
    Sybil,
}

struct World {
    peers: Vec<(PeerId, Manner)>,
    tables: HashMap<PeerId, Table>,
}

fn peer(seed: u16) -> PeerId {
    let mut bytes = [1; 32];
    bytes[..2].copy_from_slice(&seed.to_be_bytes());
    libp2p_identity::Keypair::ed25519_from_bytes(bytes).unwrap().public().to_peer_id()
}

fn contact(peer: PeerId) -> Contact {
    Contact { peer, addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()] }
}

impl World {
    fn new(count: u16, manner: impl Fn(u16) -> Manner) -> Self {
        let peers: Vec<_> = (0..count).map(|seed| (peer(seed), manner(seed))).collect();
        let now = Instant::now();
        let table = |own: &PeerId| {
            let mut table = Table::new(*own);
            for (other, _) in &peers {
                table.insert(contact(*other), now);
            }
            (*own, table)
        };
        let tables = peers.iter().map(|(own, _)| table(own)).collect();
        Self { peers, tables }
    }

    /// What a peer answers.
    fn ask(&self, asked: &PeerId, target: &Position) -> Option<Vec<Contact>> {
        let manner = self.peers.iter().find(|(peer, _)| peer == asked)?.1;
        match manner {
            Manner::Honest => Some(self.tables[asked].closest(target, K)),
            Manner::Dead => None,
            Manner::Sybil => {
                let kind = self.peers.iter().filter(|(_, manner)| *manner == Manner::Sybil);
                Some(kind.map(|(peer, _)| contact(*peer)).collect())
            }
        }
    }

    /// Runs a lookup from three seeds; the nearest, and how many were asked.
    fn run(&self, target: Position) -> (Vec<PeerId>, usize) {
        let seeds = self.peers.iter().take(3).map(|(peer, _)| contact(*peer)).collect();
        let mut lookup = Lookup::new(target, peer(u16::MAX), seeds);
        let (mut running, mut asked) = (VecDeque::new(), 0);
        while !lookup.is_over() {
            while let Some(next) = lookup.next() {
                running.push_back(next.peer);
                asked += 1;
            }
            assert!(running.len() <= ASKED_MAX);
            let peer = running.pop_front().expect("somebody is asked until it is over");
            match self.ask(&peer, &target) {
                Some(closer) => lookup.answered(&peer, closer),
                None => lookup.failed(&peer),
            }
        }
        (lookup.into_closest().into_iter().map(|contact| contact.peer).collect(), asked)
    }

    fn nearest(&self, target: &Position, manner: Manner) -> Vec<PeerId> {
        let mut peers: Vec<_> =
            self.peers.iter().filter(|(_, m)| *m == manner).map(|(peer, _)| *peer).collect();
        peers.sort_by_key(|peer| Position::of_peer(peer).distance(target));
        peers.truncate(K);
        peers
    }
}

#[tokio::test]
async fn the_twenty_nearest_of_two_hundred_are_found() {
    let world = World::new(200, |_| Manner::Honest);
    for key in 0..20u8 {
        let target = Position::of(&[key]);
        let (found, asked) = world.run(target);
        assert_eq!(found, world.nearest(&target, Manner::Honest));
        assert!(asked < 60, "{asked}");
    }
}

#[tokio::test]
async fn half_of_them_may_be_dead() {
    let dead = |seed| if seed > 2 && seed % 2 == 0 { Manner::Dead } else { Manner::Honest };
    let world = World::new(200, dead);
    for key in 0..20u8 {
        let target = Position::of(&[key]);
        let (found, _) = world.run(target);
        let nearest = world.nearest(&target, Manner::Honest);
        let common = found.iter().filter(|peer| nearest.contains(peer)).count();
        // Peers that are asked name dead ones among their twenty, so some of the last are missed.
        assert!(common >= 10 && found[..5] == nearest[..5], "{common} of 20");
    }
}

#[tokio::test]
async fn peers_that_name_only_each_other_do_not_end_a_lookup_early() {
    let hostile = |seed| if seed >= 180 { Manner::Sybil } else { Manner::Honest };
    let world = World::new(200, hostile);
    for key in 0..20u8 {
        let target = Position::of(&[key]);
        let (found, asked) = world.run(target);
        let honest = world.nearest(&target, Manner::Honest);
        assert!(found.iter().filter(|peer| honest.contains(peer)).count() >= 12);
        assert!(asked < 100, "{asked}");
    }
}

#[tokio::test]
async fn one_answer_of_very_many_peers_is_bounded() {
    let mut lookup = Lookup::new(Position::of(b"key"), peer(0), vec![contact(peer(1))]);
    let asked = lookup.next().unwrap();
    let many: Vec<_> =
        (2..3000).map(|seed| contact(peer(seed))).chain([contact(peer(0))]).collect();
    lookup.answered(&asked.peer, many);
    assert!(lookup.candidates.len() <= CANDIDATES_MAX);
    assert!(lookup.candidates.values().all(|(contact, _)| contact.peer != peer(0)));
}
