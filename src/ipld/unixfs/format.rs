//! The UnixFS `Data` message, the protobuf within a dag-pb node's data.

use bytes::Bytes;

use super::malformed;
use crate::ipld::Error;
use crate::ipld::protobuf::{
    Fields, Value, put_bytes_field, put_bytes_head, put_varint_field, varint, varint_len,
};

/// Nanoseconds are below this.
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// What UnixFS 1.5 adds to a node; both parts are optional and rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits, and above them 20 bits for whoever wants them.
    pub mode: Option<u32>,
    /// When it was last modified.
    pub mtime: Option<Mtime>,
}

/// A moment, counted from 1970; nanoseconds count forward also before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanos: u32,
}

/// The types of nodes we read. `Metadata` (3) was never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
    Raw = 0,
    Directory = 1,
    File = 2,
    Symlink = 4,
    HamtShard = 5,
}

/// The message. What is `None` or empty is left out of the encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) kind: DataType,
    pub(crate) data: Option<Bytes>,
    pub(crate) file_size: Option<u64>,
    pub(crate) block_sizes: Vec<u64>,
    pub(crate) hash_type: Option<u64>,
    pub(crate) fanout: Option<u64>,
    pub(crate) metadata: Metadata,
}

impl Data {
    pub(crate) fn new(kind: DataType) -> Self {
        Self {
            kind,
            data: None,
            file_size: None,
            block_sizes: Vec::new(),
            hash_type: None,
            fanout: None,
            metadata: Metadata::default(),
        }
    }

    /// Reads a message as protobuf says: unknown fields are skipped, of repeated scalars the last
    /// counts, block sizes may be packed. There may be at most `sizes_max` of these, so that few
    /// bytes do not become a long vector.
    pub(crate) fn decode(message: &Bytes, sizes_max: usize) -> Result<Self, Error> {
        let mut kind = None;
        let mut new = Self::new(DataType::Raw);
        for field in Fields::new(message) {
            let field = field.map_err(|_| malformed("a field ends beyond the message"))?;
            match (field.number, field.value) {
                (1, Value::Varint(value)) => kind = Some(data_type(value)?),
                (2, Value::Bytes(range)) => new.data = Some(message.slice(range)),
                (3, Value::Varint(value)) => new.file_size = Some(value),
                (4, Value::Varint(value)) => new.push_size(value, sizes_max)?,
                (4, Value::Bytes(range)) => new.unpack_sizes(&message[range], sizes_max)?,
                (5, Value::Varint(value)) => new.hash_type = Some(value),
                (6, Value::Varint(value)) => new.fanout = Some(value),
                (7, Value::Varint(value)) => new.metadata.mode = Some(value as u32),
                (8, Value::Bytes(range)) => new.metadata.mtime = mtime(&message[range])?,
                (1..=8, _) => return Err(malformed("a field has the wrong type")),
                _ => {}
            }
        }
        new.kind = kind.ok_or(malformed("the node has no type"))?;
        Ok(new)
    }

    fn push_size(&mut self, size: u64, sizes_max: usize) -> Result<(), Error> {
        if self.block_sizes.len() >= sizes_max {
            return Err(malformed("there are more block sizes than links"));
        }
        self.block_sizes.push(size);
        Ok(())
    }

    fn unpack_sizes(&mut self, packed: &[u8], sizes_max: usize) -> Result<(), Error> {
        let mut at = 0;
        while at < packed.len() {
            let size = varint(packed, &mut at);
            self.push_size(size.ok_or(malformed("a packed block size is cut off"))?, sizes_max)?;
        }
        Ok(())
    }

    /// The bytes, fields in the order of their numbers.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64 + self.data.as_ref().map_or(0, Bytes::len));
        put_varint_field(&mut out, 1, self.kind as u64);
        if let Some(data) = &self.data {
            put_bytes_field(&mut out, 2, data);
        }
        if let Some(size) = self.file_size {
            put_varint_field(&mut out, 3, size);
        }
        for size in &self.block_sizes {
            put_varint_field(&mut out, 4, *size);
        }
        if let Some(hash_type) = self.hash_type {
            put_varint_field(&mut out, 5, hash_type);
        }
        if let Some(fanout) = self.fanout {
            put_varint_field(&mut out, 6, fanout);
        }
        put_metadata(&mut out, &self.metadata);
        out.into()
    }
}

fn data_type(value: u64) -> Result<DataType, Error> {
    Ok(match value {
        0 => DataType::Raw,
        1 => DataType::Directory,
        2 => DataType::File,
        4 => DataType::Symlink,
        5 => DataType::HamtShard,
        _ => return Err(malformed("the node is of an unknown type")),
    })
}

/// A time whose nanoseconds are out of range counts as absent: the content is readable anyway.
fn mtime(message: &[u8]) -> Result<Option<Mtime>, Error> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Fields::new(message) {
        let field = field.map_err(|_| malformed("the time of modification is cut off"))?;
        match (field.number, field.value) {
            (1, Value::Varint(value)) => seconds = Some(value as i64),
            (2, Value::Fixed32(value)) => nanos = value,
            _ => {}
        }
    }
    Ok(seconds.map(|seconds| Mtime { seconds, nanos }).filter(|time| time.nanos < NANOS_PER_SECOND))
}

fn put_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    if let Some(mode) = metadata.mode {
        put_varint_field(out, 7, mode.into());
    }
    if let Some(Mtime { seconds, nanos }) = metadata.mtime {
        let nanos_len = if nanos > 0 { 5 } else { 0 };
        put_bytes_head(out, 8, 1 + varint_len(seconds as u64) + nanos_len);
        put_varint_field(out, 1, seconds as u64);
        if nanos > 0 {
            out.push(2 << 3 | 5);
            out.extend_from_slice(&nanos.to_le_bytes());
        }
    }
}
