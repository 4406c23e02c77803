use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::block::{Block, IDENTITY, Mh, SHA2_256};
use crate::ipld::protobuf::{put_bytes_field, put_varint_field, varint};

const HELLO: &[u8] = b"hello world";

fn hello() -> Cid {
    *Block::sha2_256(codec::RAW, Bytes::from_static(HELLO)).unwrap().cid()
}

fn want(kind: WantKind) -> Entry {
    Entry { cid: hello(), priority: 1, kind, cancel: false, send_dont_have: true }
}

fn flat(frame: &Frame) -> Vec<u8> {
    let flat = frame.pieces.concat();
    assert_eq!(flat.len(), frame.bytes);
    flat
}

/// The message of a frame, its length checked.
fn body(frame: &[u8]) -> Bytes {
    let mut at = 0;
    let length = varint(frame, &mut at).unwrap();
    assert_eq!(length as usize, frame.len() - at);
    Bytes::copy_from_slice(&frame[at..])
}

#[test]
fn messages_are_the_bytes_that_others_write() {
    let check = |message: Message, hex: &str| {
        let frame = flat(&message.encode(Dialect::V1_2));
        assert_eq!(HEXLOWER.encode(&frame), hex);
        assert_eq!(Message::decode(&body(&frame)), Ok(message));
    };
    let wants = |want| Message { wants: vec![want], ..Message::default() };
    check(
        wants(want(WantKind::Block)),
        "2e0a2c0a2a0a2401551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde910012801",
    );
    check(
        wants(want(WantKind::Have)),
        "300a2e0a2c0a2401551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9100120012801",
    );
    let cancel = Entry { cancel: true, send_dont_have: false, ..want(WantKind::Block) };
    check(
        wants(cancel),
        "2e0a2c0a2a0a2401551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde910011801",
    );
    let blocks = vec![RawBlock::of(&hello(), Bytes::from_static(HELLO))];
    check(Message { blocks, ..Message::default() }, "151a130a0401551220120b68656c6c6f20776f726c64");
    check(
        Message { presences: vec![(hello(), Presence::DontHave)], ..Message::default() },
        "2a22280a2401551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde91001",
    );
}

#[test]
fn older_dialects_hear_only_what_they_know() {
    let message = Message {
        wants: vec![want(WantKind::Block), want(WantKind::Have)],
        blocks: vec![RawBlock::of(&hello(), Bytes::from_static(HELLO))],
        presences: vec![(hello(), Presence::Have)],
        ..Message::default()
    };
    let told = |dialect| Message::decode(&body(&flat(&message.encode(dialect)))).unwrap();
    let plain = Entry { send_dont_have: false, ..want(WantKind::Block) };
    let of_v1_1 = told(Dialect::V1_1);
    assert_eq!(of_v1_1, Message { wants: vec![plain], presences: Vec::new(), ..message.clone() });
    let blocks = vec![RawBlock::of_v0(Bytes::from_static(HELLO))];
    assert_eq!(told(Dialect::V1_0), Message { blocks, ..of_v1_1 });
    assert_eq!(told(Dialect::V1_2), message);
}

#[test]
fn a_small_block_does_not_keep_a_large_message_in_memory() {
    let (small, large) = (vec![1; 1000], vec![2; 100_000]);
    let block = |data: &Vec<u8>| RawBlock::of(&hello(), Bytes::copy_from_slice(data));
    let blocks = vec![block(&small), block(&large)];
    let message = Message { blocks, ..Message::default() };
    let body = body(&flat(&message.encode(Dialect::V1_2)));
    let within = |bytes: &Bytes| body.as_ptr_range().contains(&bytes.as_ptr());
    let decoded = Message::decode(&body).unwrap();
    assert!(!within(&decoded.blocks[0].data));
    assert!(within(&decoded.blocks[1].data));
}

fn with_want(fill: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let (mut entry, mut list, mut out) = (Vec::new(), Vec::new(), Vec::new());
    fill(&mut entry);
    put_bytes_field(&mut list, number::WANTLIST_ENTRY, &entry);
    put_bytes_field(&mut out, number::WANTLIST, &list);
    out
}

/// As far as it is about one message.
#[test]
fn odd_messages_are_passed_over_or_refused() {
    let read = |bytes: Vec<u8>| Message::decode(&bytes.into());
    let nothing = Ok(Message::default());
    let field = |number, bytes: &[u8]| {
        let mut out = Vec::new();
        put_bytes_field(&mut out, number, bytes);
        out
    };
    assert_eq!(read(Vec::new()), nothing, "an empty message");
    assert_eq!(read(field(number::WANTLIST, &[])), nothing, "an empty wantlist");
    assert_eq!(read(field(9, b"later")), nothing, "an unknown field");

    for (value, pending_bytes) in [(u64::MAX, 0), (i32::MAX as u64, i32::MAX as u32)] {
        let mut out = Vec::new();
        put_varint_field(&mut out, number::PENDING_BYTES, value);
        assert_eq!(read(out).unwrap().pending_bytes, pending_bytes);
    }
    let cid = hello().to_bytes();
    let priority = with_want(|entry| {
        put_bytes_field(entry, number::ENTRY_CID, &cid);
        put_varint_field(entry, number::ENTRY_PRIORITY, i64::MIN as u64 | 0xffff_fff6);
    });
    assert_eq!(read(priority).unwrap().wants[0].priority, -10);
    let later = with_want(|entry| {
        put_bytes_field(entry, number::ENTRY_CID, &cid);
        put_varint_field(entry, number::ENTRY_KIND, 7);
    });
    assert_eq!(read(later), nothing, "a kind of want that is not known");

    let identity = Cid::new_v1(codec::RAW, Mh::wrap(IDENTITY, b"me").unwrap()).to_bytes();
    let of_cid = |cid: &[u8]| with_want(|entry| put_bytes_field(entry, number::ENTRY_CID, cid));
    assert_eq!(read(of_cid(&identity)), nothing, "an identity CID");
    assert_eq!(read(of_cid(&[1; CID_BYTES_MAX + 1])), nothing, "a CID beyond all measure");
    assert!(read(of_cid(&[])).is_err(), "a want of nothing");
    assert!(read(of_cid(&[1, 0x55, 0x12])).is_err(), "a CID that is cut");
    assert!(read(of_cid(&[&*cid, &[0]].concat())).is_err(), "a CID with something behind it");

    let of_prefix = |prefix: &[u8]| field(number::BLOCK, &field(number::BLOCK_PREFIX, prefix));
    assert!(read(of_prefix(&[1, 0x55])).is_err(), "a prefix that is cut");
    assert!(read(of_prefix(&[9, 0x55, 0x12, 32])).is_err(), "a version that is none");
    assert!(read(of_prefix(&[1, 0x55, 0x12, 0x80, 2])).is_err(), "a digest of 256 bytes");
    assert!(read(field(number::BLOCK, &[])).is_err(), "a block without prefix");
    assert!(read(vec![number::WANTLIST << 3 | 2, 9, 1]).is_err(), "a field that is cut");
    assert!(read(vec![number::WANTLIST << 3, 1]).is_err(), "a wantlist that is a number");
    let later = |length| field(9, &vec![0; length - 5]);
    assert_eq!(later(MESSAGE_BYTES_MAX).len(), MESSAGE_BYTES_MAX);
    assert_eq!(read(later(MESSAGE_BYTES_MAX)), nothing, "4 MiB");
    assert!(read(later(MESSAGE_BYTES_MAX + 1)).is_err(), "4 MiB and a byte");
}

#[test]
fn lines_beyond_the_limit_are_left_alone() {
    let presences = vec![(hello(), Presence::Have); LINES_MAX + 1];
    let wants = vec![want(WantKind::Have); LINES_MAX + 1];
    let message = Message { presences, wants, ..Message::default() };
    let decoded = Message::decode(&body(&flat(&message.encode(Dialect::V1_2)))).unwrap();
    assert_eq!((decoded.presences.len(), decoded.wants.len()), (LINES_MAX, LINES_MAX));
}

fn cids() -> impl Strategy<Value = Cid> {
    (any::<[u8; 32]>(), any::<bool>()).prop_map(|(digest, old)| {
        let mh = Mh::wrap(SHA2_256, &digest).unwrap();
        if old { Cid::new_v0(mh).unwrap() } else { Cid::new_v1(codec::DAG_CBOR, mh) }
    })
}

fn kinds() -> impl Strategy<Value = WantKind> {
    prop_oneof![Just(WantKind::Block), Just(WantKind::Have)]
}

prop_compose! {
    fn entries()(
        cid in cids(),
        priority in any::<i32>(),
        kind in kinds(),
        cancel in any::<bool>(),
        send_dont_have in any::<bool>(),
    ) -> Entry {
        Entry { cid, priority, kind, cancel, send_dont_have }
    }
}

prop_compose! {
    fn blocks()(cid in cids(), data in prop::collection::vec(any::<u8>(), 0..20_000)) -> RawBlock {
        RawBlock::of(&cid, data.into())
    }
}

fn presences() -> impl Strategy<Value = Presence> {
    prop_oneof![Just(Presence::Have), Just(Presence::DontHave)]
}

prop_compose! {
    fn messages()(
        full in any::<bool>(),
        wants in prop::collection::vec(entries(), 0..8),
        blocks in prop::collection::vec(blocks(), 0..4),
        presences in prop::collection::vec((cids(), presences()), 0..8),
        pending_bytes in 0..=i32::MAX as u32,
    ) -> Message {
        Message { full, wants, blocks, presences, pending_bytes }
    }
}

proptest! {
    #[test]
    fn messages_go_there_and_back(message in messages()) {
        let frame = flat(&message.encode(Dialect::V1_2));
        prop_assert_eq!(Message::decode(&body(&frame)), Ok(message));
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode(&bytes.into());
    }
}
