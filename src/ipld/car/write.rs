//! Writing CAR v1: the header, then before each block its length and CID.

use bytes::{Bytes, BytesMut};

use crate::block::{Block, Cid};

/// The header of a CAR v1 with these roots, its length included.
#[must_use]
pub fn header_v1(roots: &[Cid]) -> Bytes {
    // {"roots": [link, …], "version": 1} in DAG-CBOR.
    let mut header = vec![0xa2];
    header.extend_from_slice(b"\x65roots");
    put_head(&mut header, 4, roots.len());
    for root in roots {
        let cid = root.to_bytes();
        header.extend_from_slice(&[0xd8, 42]);
        put_head(&mut header, 2, cid.len() + 1);
        header.push(0);
        header.extend_from_slice(&cid);
    }
    header.extend_from_slice(b"\x67version\x01");

    let mut out = Vec::with_capacity(header.len() + 5);
    put_varint(&mut out, header.len());
    out.extend_from_slice(&header);
    out.into()
}

/// What stands before a block: write it, then [`Block::data`], which is not copied.
#[must_use]
pub fn section_prefix(block: &Block) -> Bytes {
    let cid_bytes = block.cid().encoded_len();
    let mut out = Vec::with_capacity(cid_bytes + 5);
    put_varint(&mut out, cid_bytes + block.data().len());
    out.extend_from_slice(&block.cid().to_bytes());
    out.into()
}

/// The same, appended to a buffer.
pub fn put_section_prefix(out: &mut BytesMut, block: &Block) {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let length = block.cid().encoded_len() + block.data().len();
    out.extend_from_slice(unsigned_varint::encode::usize(length, &mut buffer));
    out.extend_from_slice(&block.cid().to_bytes());
}

/// How many bytes a block of `data_bytes` takes in a CAR, with what stands before it.
#[must_use]
pub fn section_bytes(cid: &Cid, data_bytes: u64) -> u64 {
    let body = cid.encoded_len() as u64 + data_bytes;
    let mut buffer = unsigned_varint::encode::u64_buffer();
    unsigned_varint::encode::u64(body, &mut buffer).len() as u64 + body
}

fn put_varint(out: &mut Vec<u8>, value: usize) {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    out.extend_from_slice(unsigned_varint::encode::usize(value, &mut buffer));
}

/// The head of a CBOR array or byte string, in its shortest form.
fn put_head(out: &mut Vec<u8>, major: u8, count: usize) {
    let major = major << 5;
    match (u8::try_from(count), u16::try_from(count)) {
        (Ok(small @ 0..=23), _) => out.push(major | small),
        (Ok(byte), _) => out.extend_from_slice(&[major | 24, byte]),
        (_, Ok(short)) => {
            out.push(major | 25);
            out.extend_from_slice(&short.to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&(count as u64).to_be_bytes());
        }
    }
}
