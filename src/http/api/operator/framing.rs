//! How files and folders travel to a node in one body, as they are read.
//!
//! A body is entries and then an end, so that one that was cut short is known as such:
//!
//! ```text
//! entry  = kind:u8  length:u32  path        kind: b'F' file, b'D' folder, b'L' link
//! file   = entry  { length:u32  bytes }  0:u32
//! link   = entry  length:u32  target
//! body   = { file | folder | link }  b'E'
//! ```
//!
//! Numbers are little-endian. Lengths of what a file holds need not be known when it begins.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

/// Longest path or target, in bytes.
pub const PATH_BYTES_MAX: usize = 16 << 10;
/// Longest piece of a file, in bytes.
pub const PIECE_BYTES_MAX: usize = 4 << 20;

const FILE: u8 = b'F';
const FOLDER: u8 = b'D';
const LINK: u8 = b'L';
const END: u8 = b'E';

/// What begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file at this path; its bytes follow.
    File(String),
    /// A folder at this path.
    Folder(String),
    /// A symbolic link at this path, and where it points.
    Link(String, String),
}

/// The bytes that begin an entry.
#[must_use]
pub fn entry(entry: &Entry) -> Bytes {
    let mut out = BytesMut::new();
    let mut put = |kind, path: &String| {
        out.put_u8(kind);
        put_text(&mut out, path);
    };
    match entry {
        Entry::File(path) => put(FILE, path),
        Entry::Folder(path) => put(FOLDER, path),
        Entry::Link(path, target) => {
            put(LINK, path);
            put_text(&mut out, target);
        }
    }
    out.freeze()
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text.as_bytes());
}

/// The bytes before a piece of a file; of length 0, the end of the file.
#[must_use]
pub fn piece_head(length: u32) -> Bytes {
    Bytes::copy_from_slice(&length.to_le_bytes())
}

/// The end of all.
#[must_use]
pub fn end() -> Bytes {
    Bytes::from_static(&[END])
}

/// Reads entries from a body, without copying what files hold.
#[derive(Debug)]
pub struct Entries<S> {
    body: S,
    held: Bytes,
    /// Bytes left of the piece under way; `None` between files.
    piece: Option<usize>,
    ended: bool,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Entries<S> {
    /// Reads from `body`.
    pub fn new(body: S) -> Self {
        Self { body, held: Bytes::new(), piece: None, ended: false }
    }

    /// The next entry; `None` after the end. What is unread of a file is passed over.
    pub async fn next(&mut self) -> io::Result<Option<Entry>> {
        while self.data().await?.is_some() {}
        if self.ended {
            return Ok(None);
        }
        match self.exactly(1).await?[0] {
            FILE => {
                let path = self.text().await?;
                self.piece = Some(0);
                Ok(Some(Entry::File(path)))
            }
            FOLDER => Ok(Some(Entry::Folder(self.text().await?))),
            LINK => Ok(Some(Entry::Link(self.text().await?, self.text().await?))),
            END => {
                self.ended = true;
                Ok(None)
            }
            _ => Err(malformed("an entry is of no known kind")),
        }
    }

    /// More of the file that began last; `None` at its end.
    pub async fn data(&mut self) -> io::Result<Option<Bytes>> {
        let Some(mut left) = self.piece else { return Ok(None) };
        if left == 0 {
            left = self.length().await?;
            if left > PIECE_BYTES_MAX {
                return Err(malformed("a piece is too long"));
            }
            if left == 0 {
                self.piece = None;
                return Ok(None);
            }
        }
        self.fill().await?;
        let taken = self.held.split_to(left.min(self.held.len()));
        self.piece = Some(left - taken.len());
        Ok(Some(taken))
    }

    async fn text(&mut self) -> io::Result<String> {
        let length = self.length().await?;
        if length > PATH_BYTES_MAX {
            return Err(malformed("a path is too long"));
        }
        let bytes = self.exactly(length).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a path is not UTF-8"))
    }

    async fn length(&mut self) -> io::Result<usize> {
        Ok(self.exactly(4).await?.get_u32_le() as usize)
    }

    /// Exactly so many bytes; few, for they may be copied.
    async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        if self.held.len() >= length {
            return Ok(self.held.split_to(length));
        }
        let mut joined = BytesMut::with_capacity(length);
        while joined.len() < length {
            self.fill().await?;
            let part = self.held.split_to(self.held.len().min(length - joined.len()));
            joined.extend_from_slice(&part);
        }
        Ok(joined.freeze())
    }

    async fn fill(&mut self) -> io::Result<()> {
        while self.held.is_empty() {
            let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
            self.held = self.body.next().await.ok_or_else(cut)??;
        }
        Ok(())
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let parts = [
            entry(&Entry::Folder("d".into())),
            entry(&Entry::File("d/ü".into())),
            piece_head(5),
            Bytes::from_static(b"hello"),
            piece_head(1),
            Bytes::from_static(b"!"),
            piece_head(0),
            entry(&Entry::Link("d/l".into(), "ü".into())),
            entry(&Entry::File("d/empty".into())),
            piece_head(0),
            end(),
        ];
        parts.concat()
    }

    async fn read(bytes: &[u8], size: usize) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let pieces: Vec<_> = bytes.chunks(size).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
        let mut entries = Entries::new(futures_util::stream::iter(pieces));
        let mut found = Vec::new();
        while let Some(entry) = entries.next().await? {
            let mut data = Vec::new();
            while let Some(part) = entries.data().await? {
                data.extend_from_slice(&part);
            }
            found.push((entry, data));
        }
        Ok(found)
    }

    #[tokio::test]
    async fn what_is_written_is_read_however_it_is_cut() {
        let bytes = sample();
        for size in 1..=bytes.len() {
            let found = read(&bytes, size).await.unwrap();
            assert_eq!(found.len(), 4);
            assert_eq!(found[1], (Entry::File("d/ü".into()), b"hello!".to_vec()));
            assert_eq!(found[2].0, Entry::Link("d/l".into(), "ü".into()));
        }
    }

    #[tokio::test]
    async fn a_body_cut_short_is_never_taken_for_a_whole_one() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], 7).await.is_err(), "{length}");
        }
    }

    #[tokio::test]
    async fn lengths_are_bounded_before_anything_is_held() {
        let long = [b"F".as_slice(), &u32::MAX.to_le_bytes()].concat();
        assert!(read(&long, 9).await.is_err());
        let piece = [b"F\0\0\0\0".as_slice(), &u32::MAX.to_le_bytes()].concat();
        assert!(read(&piece, 9).await.is_err());
        assert!(read(b"?", 1).await.is_err());
    }
}
