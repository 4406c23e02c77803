//! The first half of an upload: bytes are cut into pieces, and the pieces hashed on all cores.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::batch::Batch;
use super::contents::{Content, Kind, Record};
use super::names::{Shape, Tree};
use super::pool::Memory;
use super::write::{Hashed, Work, Written, write};
use super::{Error, Place, Upload};
use crate::ipld::unixfs::Metadata;
use crate::ipld::unixfs::import::{Chunker, Profile, symlink};

/// What is hashed in one job, unless a chunk is larger, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Most chunks hashed in one job.
const PIECE_CHUNKS_MAX: usize = 1024;
/// Pieces below this are hashed on the spot: to hand them over would cost as much, in bytes.
const AT_ONCE_BYTES_MAX: usize = 16 << 10;
/// Pieces of one upload that are hashed or wait to be written.
const PIECES_AHEAD: usize = 8;

/// How content becomes blocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The profile.
    pub profile: Profile,
    /// How files are cut; the profile's way where absent.
    pub chunker: Option<Chunker>,
}

/// An upload of files, folders and links under way. It takes at most a few pieces of
/// memory, and what its names take. Dropped before [`Adding::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Adding {
    upload: Upload,
    profile: Profile,
    chunk_bytes: usize,
    /// Bytes hashed in one job: whole chunks.
    piece_bytes: usize,
    piece: BytesMut,
    tree: Tree,
    /// Files and links so far.
    leaves: usize,
    bytes: u64,
    to: mpsc::Sender<Work>,
    writer: Option<JoinHandle<Result<Written, Error>>>,
    _place: Place,
}

impl Adding {
    pub(super) async fn begin(
        upload: Upload,
        place: Place,
        options: Options,
    ) -> Result<Self, Error> {
        let profile = options.profile;
        let chunk_bytes = options.chunker.unwrap_or(profile.chunker()).bytes_max();
        let chunks = (PIECE_BYTES / chunk_bytes).clamp(1, PIECE_CHUNKS_MAX);
        let batch = Batch::new(upload.store.begin().await?, upload.denylist.clone());
        let (to, from) = mpsc::channel(PIECES_AHEAD);
        let writer = upload.tasks.spawn(write(from, batch, profile));
        Ok(Self {
            upload,
            profile,
            chunk_bytes,
            piece_bytes: chunk_bytes * chunks,
            piece: BytesMut::new(),
            tree: Tree::default(),
            leaves: 0,
            bytes: 0,
            to,
            writer: Some(writer),
            _place: place,
        })
    }

    /// Begins a file at `path`; the empty path is the upload itself. Its bytes follow by
    /// [`Adding::write`], its end by [`Adding::end_file`].
    pub fn file(&mut self, path: &str) -> Result<(), Error> {
        self.tree.leaf(path, self.leaves)?;
        self.leaves += 1;
        Ok(())
    }

    /// The next bytes of the file under way. Waits while hashing or the disk lag behind.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        let limit = self.upload.bytes_max;
        if self.bytes > limit {
            return Err(Error::TooLarge { limit });
        }
        while !bytes.is_empty() {
            if self.piece.is_empty() && bytes.len() >= self.piece_bytes {
                let piece = bytes.split_to(self.piece_bytes);
                self.hash(piece).await?;
                continue;
            }
            let free = self.piece_bytes - self.piece.len();
            let part = bytes.split_to(free.min(bytes.len()));
            if self.piece.capacity() - self.piece.len() < part.len() {
                // A file that is small takes what it needs, any other at once the whole piece.
                let wanted = if self.piece.is_empty() { part.len() } else { free };
                self.piece.reserve(wanted);
            }
            self.piece.extend_from_slice(&part);
            if self.piece.len() == self.piece_bytes {
                let piece = std::mem::take(&mut self.piece).freeze();
                self.hash(piece).await?;
            }
        }
        Ok(())
    }

    /// The file under way ends.
    pub async fn end_file(&mut self) -> Result<(), Error> {
        if !self.piece.is_empty() {
            let piece = std::mem::take(&mut self.piece).freeze();
            self.hash(piece).await?;
        }
        self.send(Work::FileEnd).await
    }

    /// Adds an empty folder, or says nothing new of one that is there.
    pub fn folder(&mut self, path: &str) -> Result<(), Error> {
        Ok(self.tree.folder(path)?)
    }

    /// Adds a symbolic link.
    pub async fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        let link = symlink(self.profile, target, Metadata::default())?;
        self.tree.leaf(path, self.leaves)?;
        self.leaves += 1;
        self.send(Work::Link(link)).await
    }

    /// Where the upload is a folder of one entry, takes that entry for the whole, and gives its
    /// name.
    pub fn unwrap_only_entry(&mut self) -> Option<Box<str>> {
        self.tree.unwrap_only_entry()
    }

    /// Makes the folders, pins the whole and records it, durable when it returns.
    pub async fn finish(mut self, record: Record) -> Result<Content, Error> {
        let kind = match self.tree.shape().ok_or(Error::Nothing)? {
            Shape::Leaf => Kind::File,
            Shape::Folder => Kind::Directory,
        };
        self.send(Work::End).await?;
        let Written { mut batch, made } = self.written().await?;
        let (tree, profile) = (std::mem::take(&mut self.tree), self.profile);
        let build = tokio::task::spawn_blocking(move || tree.build(profile, &made));
        let built = build.await.map_err(|_| Error::GivenUp)??;
        let (whole, blocks) = built.ok_or(Error::GivenUp)?;
        for block in blocks {
            batch.add([block], Memory::none()).await?;
        }
        let writing = batch.finish().await?;
        let content = self.upload.pin(writing, whole.cid, whole.size, kind, record).await?;
        self.upload.metrics.bytes.inc_by(self.bytes);
        Ok(content)
    }

    async fn hash(&mut self, piece: Bytes) -> Result<(), Error> {
        let (profile, chunk_bytes) = (self.profile, self.chunk_bytes);
        let work = if piece.len() <= AT_ONCE_BYTES_MAX {
            Work::Leaves(leaves(profile, chunk_bytes, piece)?)
        } else {
            let bytes = piece.len();
            let job = move || leaves(profile, chunk_bytes, piece);
            Work::Hashing(self.upload.pool.start(bytes, job).await)
        };
        self.send(work).await
    }

    async fn send(&mut self, work: Work) -> Result<(), Error> {
        if self.to.send(work).await.is_ok() {
            return Ok(());
        }
        // The writer ended before its time, and knows why.
        self.written().await.and(Err(Error::GivenUp))
    }

    async fn written(&mut self) -> Result<Written, Error> {
        let writer = self.writer.take().ok_or(Error::GivenUp)?;
        writer.await.map_err(|_| Error::GivenUp)?
    }
}

fn leaves(profile: Profile, chunk_bytes: usize, mut piece: Bytes) -> Hashed {
    let mut leaves = Vec::with_capacity(piece.len().div_ceil(chunk_bytes));
    while !piece.is_empty() {
        let chunk = piece.split_to(chunk_bytes.min(piece.len()));
        leaves.push(profile.leaf(chunk)?);
    }
    Ok(leaves)
}
