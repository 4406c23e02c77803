//! Nodes that no importer makes.

use super::*;

/// A UnixFS node, field by field.
#[derive(Default)]
pub(super) struct Made {
    /// 1 directory, 2 file, 4 link.
    pub(super) kind: u64,
    pub(super) data: Option<Vec<u8>>,
    pub(super) mode: Option<u64>,
    /// Seconds since 1970.
    pub(super) mtime: Option<u64>,
    /// Each child: its name, where it is, and how many bytes of the file it has.
    pub(super) children: Vec<(Vec<u8>, Cid, u64)>,
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

impl Made {
    /// A directory of these names, in this order.
    pub(super) fn directory<'n>(entries: impl IntoIterator<Item = (&'n [u8], Cid)>) -> Self {
        let children = entries.into_iter().map(|(name, cid)| (name.to_vec(), cid, 0)).collect();
        Self { kind: 1, children, ..Self::default() }
    }

    /// A link to this path.
    pub(super) fn link(target: &str) -> Self {
        Self { kind: 4, data: Some(target.into()), ..Self::default() }
    }

    pub(super) fn put(self, world: &World) -> Cid {
        let mut message = vec![8];
        varint(&mut message, self.kind);
        if let Some(data) = &self.data {
            message.push(2 << 3 | 2);
            varint(&mut message, data.len() as u64);
            message.extend_from_slice(data);
        }
        if self.kind == 2 {
            let own = self.data.as_ref().map_or(0, Vec::len) as u64;
            message.push(3 << 3);
            varint(&mut message, own + self.children.iter().map(|(_, _, size)| size).sum::<u64>());
            for (_, _, size) in &self.children {
                message.push(4 << 3);
                varint(&mut message, *size);
            }
        }
        if let Some(mode) = self.mode {
            message.push(7 << 3);
            varint(&mut message, mode);
        }
        if let Some(mtime) = self.mtime {
            let mut time = vec![1 << 3];
            varint(&mut time, mtime);
            message.push(8 << 3 | 2);
            varint(&mut message, time.len() as u64);
            message.extend_from_slice(&time);
        }
        let link = |(name, cid, size): (Vec<u8>, Cid, u64)| PbLink {
            cid,
            name: Some(name.into()),
            tsize: Some(size),
        };
        let links = self.children.into_iter().map(link).collect();
        let node = PbNode { links, data: Some(message.into()) };
        let block = Block::sha2_256(codec::DAG_PB, node.encode()).unwrap();
        world.store.insert([block.clone()]);
        *block.cid()
    }
}

/// A file of so many bytes, over and over the same full node: a few blocks, however large it is.
pub(super) fn huge_file(world: &World, bytes: u64) -> Cid {
    let mut unit = world.raw(vec![b'x'; 1 << 10]);
    let mut size = 1 << 10;
    while size < bytes {
        let children = (0..64).map(|_| (Vec::new(), unit, size)).collect();
        unit = Made { kind: 2, children, ..Made::default() }.put(world);
        size *= 64;
    }
    unit
}

/// A block of DAG-CBOR: a map of one-letter keys to links.
pub(super) fn cbor_links(world: &World, links: &[(&str, Cid)]) -> Cid {
    let mut map = vec![0xa0 + links.len() as u8];
    for (key, cid) in links {
        map.push(0x60 + key.len() as u8);
        map.extend_from_slice(key.as_bytes());
        let cid = cid.to_bytes();
        map.extend_from_slice(&[0xd8, 0x2a, 0x58, cid.len() as u8 + 1, 0]);
        map.extend_from_slice(&cid);
    }
    put(world, codec::DAG_CBOR, map)
}

/// Any block.
pub(super) fn put(world: &World, codec: u64, data: impl Into<Bytes>) -> Cid {
    let block = Block::sha2_256(codec, data.into()).unwrap();
    world.store.insert([block.clone()]);
    *block.cid()
}
