use super::*;
use crate::network;

fn guard(allow_private: bool) -> Guard {
    Guard::new(&network::Config { allow_private })
}

fn table() -> Table {
    Table::new(600, guard(false))
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn at(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// An address of a group of its own.
fn apart(number: usize) -> Multiaddr {
    at(&format!("/ip4/{}.{}.{}.1/tcp/4001", 11 + number / 65_536, number / 256 % 256, number % 256))
}

/// Takes in an inbound connection, all the way.
fn inbound(table: &mut Table, number: usize, from: &Multiaddr) -> Result<PeerId, Refusal> {
    let peer = PeerId::random();
    table.begin(id(number), Direction::Inbound, Some(from), false)?;
    let admitted = table.admits(id(number), &peer, Direction::Inbound, false);
    if let Err(refused) = admitted {
        table.failed(id(number));
        return Err(refused);
    }
    table.established(id(number), peer, Direction::Inbound, from.clone(), Instant::now());
    Ok(peer)
}

#[test]
fn addresses_are_grouped_by_who_may_have_them() {
    let check = |text: &str, allow_private| Group::of(&at(text), guard(allow_private));
    assert_eq!(check("/ip4/1.2.3.4/tcp/1", false), Some(Group::V4([1, 2, 3])));
    assert_eq!(check("/ip6/::ffff:1.2.3.4/tcp/1", false), Some(Group::V4([1, 2, 3])));
    let v6 = Some(Group::V6([0x2a01, 2, 3]));
    assert_eq!(check("/ip6/2a01:2:3:4::5/udp/1/quic-v1", false), v6);
    assert_eq!(check("/ip4/127.0.0.1/tcp/1", false), None);
    assert_eq!(check("/ip6/::1/tcp/1", false), None);
    assert_eq!(check("/ip4/10.1.2.3/tcp/1", false), Some(Group::V4([10, 1, 2])));
    assert_eq!(check("/ip4/10.1.2.3/tcp/1", true), None);
    assert_eq!(check("/p2p-circuit", false), Some(Group::Relayed));
    assert_eq!(check("/ip4/127.0.0.1/tcp/1/p2p-circuit", true), Some(Group::Relayed));
    assert_eq!(check("/memory/7", false), None);
}

#[test]
fn a_peer_dialled_by_a_relay_alone_is_told_from_others() {
    let (mut table, peer, now) = (table(), PeerId::random(), Instant::now());
    let (circuit, direct) = (at("/ip4/1.2.3.4/tcp/1/p2p-circuit"), at("/ip4/5.6.7.8/tcp/1"));
    assert!(!table.is_dialled_by_relay_alone(&peer));
    table.established(id(1), peer, Direction::Outbound, circuit.clone(), now);
    assert!(table.is_dialled_by_relay_alone(&peer));
    table.established(id(2), peer, Direction::Outbound, direct, now);
    assert!(!table.is_dialled_by_relay_alone(&peer));
    table.closed(id(1), &peer);
    assert!(!table.is_dialled_by_relay_alone(&peer));
    let other = PeerId::random();
    table.established(id(3), other, Direction::Inbound, circuit, now);
    assert!(!table.is_dialled_by_relay_alone(&other), "the other side dials as if it were dialled");
}

#[test]
fn a_flood_of_5000_half_open_connections_of_one_group_leaves_room_for_others() {
    let mut table = table();
    let mut refused = 0;
    for number in 0..5000 {
        let from = at(&format!("/ip4/198.51.100.{}/tcp/{}", number % 256, 1024 + number));
        let begun = table.begin(id(number), Direction::Inbound, Some(&from), false);
        refused += usize::from(begun == Err(Refusal::GroupPending));
    }
    assert_eq!(refused, 5000 - GROUP_PENDING_MAX);
    assert!(inbound(&mut table, 9999, &apart(0)).is_ok(), "others find room");
}

#[test]
fn a_flood_of_5000_half_open_connections_of_many_groups_leaves_room_for_protected_peers() {
    let mut table = table();
    let begun = |table: &mut Table, number, reserved| {
        table.begin(id(number), Direction::Inbound, Some(&apart(number)), reserved)
    };
    let taken = (0..5000).filter(|number| begun(&mut table, *number, false).is_ok()).count();
    assert_eq!(taken, PENDING_IN_MAX);
    assert_eq!(begun(&mut table, 6000, false), Err(Refusal::Pending));
    assert_eq!(begun(&mut table, 6001, true), Ok(()));
    assert!(table.admits(id(6001), &PeerId::random(), Direction::Inbound, true).is_ok());
    (0..5000).for_each(|number| table.failed(id(number)));
    table.failed(id(6001));
    assert_eq!(table.count_of(Direction::Inbound), Count::default());
    assert!(table.groups.is_empty() && table.pending.is_empty(), "nothing is left of them");
}

#[test]
fn five_thousand_connections_are_capped_in_all_by_group_and_by_peer() {
    let mut table = table();
    let taken = (0..5000).filter(|n| inbound(&mut table, *n, &apart(*n)).is_ok()).count();
    assert_eq!((taken, table.len()), (600, 600), "as many as connections_high");
    let outbound = table.begin(id(9000), Direction::Outbound, None, false);
    assert_eq!(outbound, Ok(()), "dialling has a cap of its own");
    let protected = PeerId::random();
    let from = apart(9001);
    assert_eq!(
        table.begin(id(9001), Direction::Inbound, Some(&from), false),
        Err(Refusal::Established)
    );
    assert_eq!(table.begin(id(9001), Direction::Inbound, Some(&from), true), Ok(()));
    assert_eq!(table.admits(id(9001), &protected, Direction::Inbound, true), Ok(()));

    let mut table = self::table();
    let one_group = at("/ip6/2a01:2:3:4::5/tcp/1");
    let taken = (0..100).filter(|n| inbound(&mut table, *n, &one_group).is_ok()).count();
    assert_eq!(taken, GROUP_MAX);

    let peer = PeerId::random();
    for number in 200..200 + PER_PEER_MAX {
        assert_eq!(table.admits(id(number), &peer, Direction::Outbound, false), Ok(()));
        let address = apart(number);
        table.established(id(number), peer, Direction::Outbound, address, Instant::now());
    }
    assert_eq!(table.admits(id(300), &peer, Direction::Outbound, true), Err(Refusal::Peer));
}

#[test]
fn caps_rise_with_the_high_water_and_never_fall_below_512() {
    for (high, taken) in [(10, 512), (1000, 1000)] {
        let mut table = Table::new(high, guard(false));
        let all = (0..2000).filter(|n| inbound(&mut table, *n, &apart(*n)).is_ok()).count();
        assert_eq!(all, taken);
        assert!(table.is_nearly_full());
    }
}

#[test]
fn what_is_closed_is_counted_no_more() {
    let mut table = table();
    let from = at("/ip4/1.2.3.4/tcp/5");
    let peer = inbound(&mut table, 1, &from).unwrap();
    table.begin(id(2), Direction::Outbound, None, false).unwrap();
    table.established(id(2), peer, Direction::Outbound, from, Instant::now());
    table.moved(id(1), &peer, at("/ip4/9.9.9.9/tcp/5"));
    assert!(!table.closed(id(1), &peer), "there is another");
    assert!(!table.closed(id(1), &peer), "it was gone before");
    assert!(table.closed(id(2), &peer));
    assert_eq!((table.len(), table.peers().count(), table.groups.len()), (0, 0, 0));
}
