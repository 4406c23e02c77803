use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::block::codec;
use crate::ipld::car::{header_v1, section_prefix};

fn raw(data: &[u8]) -> Block {
    Block::sha2_256(codec::RAW, Bytes::copy_from_slice(data)).unwrap()
}

fn car_v1(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut car = header_v1(roots).to_vec();
    for block in blocks {
        car.extend_from_slice(&section_prefix(block));
        car.extend_from_slice(block.data());
    }
    car
}

fn car_v2(inner: &[u8], padding: usize, size: u64, index: &[u8]) -> Vec<u8> {
    let mut car = b"\x0a\xa1\x67version\x02".to_vec();
    car.extend_from_slice(&[0; 16]);
    for number in [51 + padding as u64, size, u64::MAX / 3] {
        car.extend_from_slice(&number.to_le_bytes());
    }
    car.extend_from_slice(&vec![0xee; padding]);
    car.extend_from_slice(inner);
    car.extend_from_slice(index);
    car
}

fn read(car: &[u8], piece_bytes: usize) -> Result<(Header, Vec<Block>), Error> {
    read_with(car, piece_bytes, Limits::default())
}

fn read_with(car: &[u8], piece: usize, limits: Limits) -> Result<(Header, Vec<Block>), Error> {
    let (mut header, mut blocks) = (None, Vec::new());
    let mut reader = CarReader::new(limits);
    for piece in car.chunks(piece.max(1)) {
        reader.feed(Bytes::copy_from_slice(piece));
        while let Some(event) = reader.next()? {
            match event {
                CarEvent::Header(found) => assert_eq!(header.replace(found), None),
                CarEvent::Block(block) => blocks.push(block.verify()?),
            }
        }
    }
    reader.finish()?;
    Ok((header.unwrap(), blocks))
}

#[test]
fn both_versions_are_read_in_pieces_of_any_size() {
    let blocks = [raw(b""), raw(b"one"), raw(&[7; 5000])];
    let roots = [*blocks[0].cid(), *blocks[2].cid()];
    let v1 = car_v1(&roots, &blocks);
    let size = v1.len() as u64;
    for (version, car) in [
        (1, v1.clone()),
        (2, car_v2(&v1, 0, size, b"")),
        (2, car_v2(&v1, 100, size, b"an index that nobody reads")),
        (2, car_v2(&v1, 3, 0, b"")),
    ] {
        for piece in [1, 7, 60, 4096, usize::MAX] {
            let (header, read) = read(&car, piece).unwrap();
            assert_eq!(header, Header { version, roots: roots.to_vec() });
            assert_eq!(read, blocks);
        }
    }
}

#[test]
fn a_piece_is_not_copied() {
    let block = raw(&[1; 1000]);
    let car = Bytes::from(car_v1(&[], &[block]));
    let within = car.as_ptr_range();
    let mut reader = CarReader::new(Limits::default());
    reader.feed(car);
    reader.next().unwrap();
    let Some(CarEvent::Block(block)) = reader.next().unwrap() else { panic!() };
    assert!(within.contains(&block.data.as_ptr()));
}

#[test]
fn a_file_that_ends_anywhere_else_is_truncated() {
    let blocks = [raw(b"one"), raw(b"two"), raw(b"three")];
    let v1 = car_v1(&[*blocks[0].cid()], &blocks);
    let ends: Vec<_> = (0..=3).map(|n| car_v1(&[*blocks[0].cid()], &blocks[..n]).len()).collect();
    for end in 0..v1.len() {
        assert_eq!(read(&v1[..end], 16).is_ok(), ends.contains(&end), "v1 cut at {end}");
    }
    let v2 = car_v2(&v1, 5, v1.len() as u64, b"");
    for end in 0..v2.len() {
        assert_eq!(read(&v2[..end], 16), Err(Error::Truncated("CAR")), "v2 cut at {end}");
    }
}

#[test]
fn lies_are_refused() {
    let block = raw(b"data");
    let good = car_v1(&[*block.cid()], std::slice::from_ref(&block));
    let with = |tail: &[u8]| [good.as_slice(), tail].concat();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let size = good.len() as u64;
    for (what, car) in [
        ("empty file", vec![]),
        ("zero-length section", with(&[0])),
        ("overlong varint", with(&[0x81, 0x00, 0x55])),
        ("endless varint", with(&[0xff; 12])),
        ("section of 2^63", with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        ("garbage CID", with(&[4, 9, 9, 9, 9])),
        ("section shorter than its CID", with(&[3, 1, 0x55, 0x12])),
        ("trailing garbage", with(b"garbage")),
        ("flipped bit", flipped),
        ("header of 4 GiB", vec![0x80, 0x80, 0x80, 0x80, 0x10, 0xa2]),
        ("header of zero bytes", vec![0]),
        ("no version", b"\x08\xa1\x65roots\x80".to_vec()),
        ("version 3", b"\x11\xa2\x65roots\x80\x67version\x03".to_vec()),
        ("no roots", b"\x0a\xa1\x67version\x01".to_vec()),
        ("two heads", b"\x12\xa2\x65roots\x80\x67version\x01\x00".to_vec()),
        ("a root that is no link", b"\x12\xa2\x65roots\x81\x01\x67version\x01".to_vec()),
        ("v2 in v2", car_v2(&car_v2(&good, 0, size, b""), 0, 0, b"")),
        ("v2 that ends early", car_v2(&good, 0, size + 1, b"")),
        ("v2 that cuts a section", car_v2(&good, 0, size - 1, b"")),
        ("v2 beyond any file", car_v2(&good, 0, u64::MAX, b"")),
    ] {
        for piece in [1, 11, usize::MAX] {
            assert!(read(&car, piece).is_err(), "{what}");
        }
    }
    let mut inside = car_v2(&good, 0, size, b"");
    inside[27..35].copy_from_slice(&50_u64.to_le_bytes());
    assert!(read(&inside, 64).is_err(), "blocks inside the header");
}

#[test]
fn sizes_and_roots_are_bounded() {
    let largest = raw(&vec![1; BLOCK_BYTES_MAX]);
    assert!(read(&car_v1(&[], std::slice::from_ref(&largest)), 1 << 16).is_ok());
    let mut over = header_v1(&[]).to_vec();
    let cid = largest.cid().to_bytes();
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let length = cid.len() + BLOCK_BYTES_MAX + 1;
    over.extend_from_slice(unsigned_varint::encode::usize(length, &mut buffer));
    over.extend_from_slice(&cid);
    over.extend_from_slice(&vec![1; BLOCK_BYTES_MAX + 1]);
    assert!(matches!(read(&over, 1 << 16), Err(Error::Limit { .. })));

    let roots = vec![*largest.cid(); 33];
    assert!(read(&car_v1(&roots[..32], &[]), 100).is_ok());
    assert!(matches!(read(&car_v1(&roots, &[]), 100), Err(Error::Limit { .. })));
    assert!(matches!(read(&car_v1(&vec![roots[0]; 2000], &[]), 100), Err(Error::Limit { .. })));
    let one = Limits { roots: 1..=1 };
    assert!(read_with(&car_v1(&[], &[]), 9, one.clone()).is_err());
    assert!(read_with(&car_v1(&roots[..1], &[]), 9, one.clone()).is_ok());
    assert!(read_with(&car_v1(&roots[..2], &[]), 9, one).is_err());
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        datas in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
        piece in 1_usize..400,
    ) {
        let blocks: Vec<_> = datas.iter().map(|data| raw(data)).collect();
        let roots: Vec<_> = blocks.iter().map(|block| *block.cid()).take(3).collect();
        let (header, found) = read(&car_v1(&roots, &blocks), piece).unwrap();
        prop_assert_eq!(header.roots, roots);
        prop_assert_eq!(found, blocks);
    }

    #[test]
    fn a_changed_file_gives_true_blocks_or_an_error(
        v2: bool, at: proptest::sample::Index, value: u8, piece in 1_usize..100,
    ) {
        let blocks = [raw(b"one"), raw(b"two"), raw(b"three")];
        let mut car = car_v1(&[*blocks[0].cid()], &blocks);
        if v2 {
            car = car_v2(&car, 4, car.len() as u64, b"index");
        }
        let at = at.index(car.len());
        car[at] = value;
        if let Ok((_, found)) = read(&car, piece) {
            prop_assert!(found.iter().all(|block| Block::verify(*block.cid(), block.data().clone()).is_ok()));
        }
    }

    #[test]
    fn anything_is_answered_without_a_panic(data: Vec<u8>, piece in 1_usize..50) {
        let _ = read(&data, piece);
    }
}
