//! A store in a directory that goes away, in a world that tests can change.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::block::{Block, Cid, codec};
use crate::blockstore::{Config, FileOp, Metrics, Outside, Sizes, Store};
use crate::db::{self, Db};

/// A world with a clock of its own and as much room as a test says.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: AtomicU64,
    pub(super) room: AtomicU64,
    /// Syncs that go well before one fails.
    pub(super) syncs: AtomicU64,
    segments: PathBuf,
}

impl World {
    /// What a write that does not fit leaves behind: half of it.
    fn tear(&self, id: u32, offset: u64, slices: &[io::IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let path = self.segments.join(format!("{id:08}.seg"));
        let file = std::fs::File::options().write(true).open(path)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..bytes.len() / 2], offset)?;
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl Outside for World {
    fn before(&self, op: &FileOp<'_>) -> io::Result<()> {
        if let FileOp::Write(id, offset, slices) = op {
            let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
            let takes = |room: u64| room.checked_sub(bytes as u64);
            let taken = self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes);
            if taken.is_err() {
                return self.tear(*id, *offset, slices);
            }
        }
        if matches!(op, FileOp::Sync(_)) {
            let good = |left: u64| left.checked_sub(1);
            let left = self.syncs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, good);
            left.map_err(|_| io::Error::from_raw_os_error(5))?;
        }
        Ok(())
    }

    fn room_bytes(&self) -> u64 {
        self.room.load(Ordering::SeqCst)
    }

    fn now_unix(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }
}

/// See the module.
pub(super) struct Fixture {
    directory: tempfile::TempDir,
    pub(super) world: Arc<World>,
    pub(super) config: Config,
    pub(super) sizes: Sizes,
    open: Option<(Store, Db)>,
}

impl Fixture {
    /// An empty store with small segments and small batches.
    pub(super) fn new() -> Self {
        let sizes = Sizes {
            segment_bytes_max: 64 << 10,
            batch_blocks_max: 16,
            write_back_bytes: 32 << 10,
            dirty_bytes_max: 96 << 10,
            files_open_max: 2,
        };
        Self::with(sizes, Config { cache_bytes_max: 1 << 20, free_bytes_min: 0 })
    }

    pub(super) fn with(sizes: Sizes, config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World {
            now: AtomicU64::new(1_000_000),
            room: AtomicU64::new(u64::MAX),
            syncs: AtomicU64::new(u64::MAX),
            segments: directory.path().join("segments"),
        };
        let mut fixture = Self { directory, world: Arc::new(world), config, sizes, open: None };
        fixture.open();
        fixture
    }

    fn open(&mut self) {
        let db = open_db(&self.directory.path().join("db.redb"));
        let metrics = Metrics::register(&crate::metrics::Registry::new()).unwrap();
        let world: Arc<dyn Outside> = Arc::clone(&self.world) as _;
        let dir = self.segments_dir();
        let store =
            Store::open_on(&dir, db.clone(), &self.config, metrics, self.sizes, world).unwrap();
        self.open = Some((store, db));
    }

    pub(super) fn store(&self) -> Store {
        self.open.as_ref().unwrap().0.clone()
    }

    pub(super) fn db(&self) -> Db {
        self.open.as_ref().unwrap().1.clone()
    }

    pub(super) fn segments_dir(&self) -> PathBuf {
        self.directory.path().join("segments")
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }

    /// As after a crash of the process: nothing is flushed, nobody says goodbye.
    pub(super) fn crash(&mut self) {
        let (store, db) = self.open.take().unwrap();
        drop(store);
        db.close().unwrap();
        self.open();
    }

    /// A clean end and a new beginning.
    pub(super) async fn reopen(&mut self) {
        self.store().close().await.unwrap();
        self.crash();
    }
}

pub(super) fn open_db(path: &std::path::Path) -> Db {
    let metrics = db::Metrics::register(&crate::metrics::Registry::new()).unwrap();
    Db::open(path, &db::Config::default(), metrics).unwrap()
}

/// A raw block that differs by `n`, of so many bytes.
pub(super) fn block(n: u64, bytes: usize) -> Block {
    let mut data: Vec<u8> = n
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(bytes)
        .collect();
    for (to, from) in data.iter_mut().zip(n.to_le_bytes()) {
        *to ^= from;
    }
    Block::sha2_256(codec::RAW, Bytes::from(data)).unwrap()
}

/// So many blocks, from `first` on.
pub(super) fn blocks(first: u64, count: u64, bytes: usize) -> Vec<Block> {
    (first..first + count).map(|n| block(n, bytes)).collect()
}

/// Writes blocks and pins them under the first one.
pub(super) async fn pin(store: &Store, blocks: &[Block]) -> Cid {
    let root = *blocks[0].cid();
    let mut writing = store.begin().await.unwrap();
    for part in blocks.chunks(7) {
        writing.put(part.to_vec()).await.unwrap();
    }
    writing.pin(root, |_| Ok(())).await.unwrap();
    root
}

/// Numbers that look random and are the same each time (splitmix64).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
