//! CARs in: read as they come, blocks verified on all cores.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::mpsc;

use super::batch::Batch;
use super::contents::{Content, Kind, Record};
use super::graph::{Found, Graph, Reach, links};
use super::pool::{Job, Memory};
use super::{Error, Upload};
use crate::block::{Block, Blockstore, Cid, IDENTITY};
use crate::blockstore::PinError;
use crate::ipld;
use crate::ipld::car::{CarEvent, CarReader, Limits, ROOTS_MAX, Unverified};

/// Bytes of blocks verified in one job.
const PIECE_BYTES: usize = 1 << 20;
/// Blocks verified in one job.
const PIECE_BLOCKS: usize = 1024;
/// Pieces that are verified or wait to be written.
const PIECES_AHEAD: usize = 8;

/// What a block's links take in memory, in its own size at most.
const LINKS_FACTOR: usize = 4;

/// Blocks, each with what it links to where that was asked for.
type Verified = Result<Vec<(Block, Vec<Cid>)>, ipld::Error>;

/// What an import found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The roots that the CAR names.
    pub roots: Vec<String>,
    /// Blocks in it.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Roots that were not pinned, since not all of their DAG is here.
    pub incomplete: Vec<Incomplete>,
}

/// A root that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incomplete {
    /// The root.
    pub root: String,
    /// The first block that is missing; none where the DAG cannot be walked.
    pub missing: Option<String>,
}

/// What was read of a CAR.
struct Read {
    roots: Vec<Cid>,
    batch: Batch,
    graph: Option<Graph>,
    blocks: u64,
    bytes: u64,
}

impl Upload {
    /// Pins the DAG in a CAR of one root and records it. All of the DAG must be in the CAR or here
    /// already, and nothing else may be in the CAR; else nothing is kept.
    pub async fn add_car<S>(&self, body: S, record: Record) -> Result<Content, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let _place = self.place()?;
        let limits = Limits { roots: 1..=1 };
        let mut read = self.read_car(body, limits, true).await?;
        let root = *read.roots.first().ok_or(Error::Nothing)?;
        if root.hash().code() == IDENTITY {
            let reason = "its root is an identity CID, which holds itself";
            return Err(ipld::Error::Malformed { format: "CAR", reason }.into());
        }
        let received = read.bytes;
        self.complete(&root, &mut read).await?;
        let (size, batch) = (read.bytes, read.batch);
        let content = self.pin(batch.finish().await?, root, size, Kind::Car, record).await?;
        self.metrics.bytes.inc_by(received);
        Ok(content)
    }

    /// Keeps all blocks of a CAR, and pins those of its roots whose DAG is whole, if `pin`.
    pub async fn import<S>(&self, body: S, pin: bool) -> Result<Imported, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let _place = self.place()?;
        let limits = Limits { roots: 0..=ROOTS_MAX };
        let read = self.read_car(body, limits, false).await?;
        let mut writing = read.batch.finish().await?;
        if pin {
            // Cached blocks might be collected before their root is pinned.
            writing.settle().await?;
        }
        let mut imported = Imported {
            roots: read.roots.iter().map(Cid::to_string).collect(),
            blocks: read.blocks,
            bytes: read.bytes,
            incomplete: Vec::new(),
        };
        for root in read.roots.iter().filter(|_| pin) {
            let missing = match self.pin_here(*root).await {
                Ok(pin) => {
                    let owned = Record::default();
                    self.record(*root, pin.bytes, Kind::Car, owned).await?;
                    continue;
                }
                Err(PinError::Missing(cid)) => Some(cid.to_string()),
                Err(PinError::Dag(_)) => None,
                Err(PinError::Blocked(blocked)) => return Err(blocked.into()),
                Err(PinError::Store(error)) => return Err(error.into()),
            };
            imported.incomplete.push(Incomplete { root: root.to_string(), missing });
        }
        writing.keep().await?;
        self.metrics.bytes.inc_by(imported.bytes);
        Ok(imported)
    }

    /// Sees that all of the root's DAG was read, or is in the store: then it is written again, to
    /// be held by the same pin. And that nothing else was read.
    async fn complete(&self, root: &Cid, read: &mut Read) -> Result<(), Error> {
        let graph = read.graph.get_or_insert_default();
        let mut reach = Reach::new(graph, root)?;
        while let Found::Missing(cid) = reach.go_on(graph)? {
            let block = self.store.get(&cid).await?;
            let block = block.and_then(|block| block.with_cid(cid));
            let block = block.ok_or_else(|| Error::Missing(Box::new(cid)))?;
            graph.insert(&cid, &links(&block)?)?;
            read.bytes += block.data().len() as u64;
            read.batch.add([block], Memory::none()).await?;
        }
        match graph.here() - reach.count() {
            0 => Ok(()),
            blocks => Err(Error::NotUnderRoot { blocks }),
        }
    }

    async fn read_car<S>(&self, mut body: S, limits: Limits, whole: bool) -> Result<Read, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let (to, from) = mpsc::channel(PIECES_AHEAD);
        let batch = Batch::new(self.store.begin().await?, self.denylist.clone());
        let mut writer = self.tasks.spawn(write(from, batch, whole));
        let mut reader = CarReader::new(limits);
        let mut roots = Vec::new();
        let mut piece = Piece::default();
        let mut received = 0;
        let outcome = async {
            while let Some(bytes) = body.next().await {
                let bytes = bytes.map_err(Error::Body)?;
                received += bytes.len() as u64;
                if received > self.bytes_max {
                    return Err(Error::TooLarge { limit: self.bytes_max });
                }
                reader.feed(bytes);
                while let Some(event) = reader.next()? {
                    match event {
                        CarEvent::Header(header) => roots = header.roots,
                        CarEvent::Block(block) => {
                            if piece.push(block) && !self.verify(&mut piece, whole, &to).await {
                                return Ok(false);
                            }
                        }
                    }
                }
            }
            reader.finish()?;
            Ok(self.verify(&mut piece, whole, &to).await && to.send(None).await.is_ok())
        };
        let sent = outcome.await;
        drop(to);
        if let Err(error) = sent {
            // What was hashed may be wrong as well, and came before.
            return match (&mut writer).await {
                Ok(Err(Error::GivenUp)) | Ok(Ok(_)) | Err(_) => Err(error),
                Ok(Err(earlier)) => Err(earlier),
            };
        }
        let mut read = writer.await.map_err(|_| Error::GivenUp)??;
        read.roots = roots;
        Ok(read)
    }

    /// Starts to verify a piece. False where nobody takes it any more.
    async fn verify(
        &self,
        piece: &mut Piece,
        whole: bool,
        to: &mpsc::Sender<Option<Job<Verified>>>,
    ) -> bool {
        let Piece { blocks, bytes } = std::mem::take(piece);
        let memory = if whole { bytes * LINKS_FACTOR } else { bytes };
        let job = move || {
            blocks
                .into_iter()
                .map(|block| {
                    let block = block.verify()?;
                    let links = if whole { links(&block)? } else { Vec::new() };
                    Ok((block, links))
                })
                .collect()
        };
        to.send(Some(self.pool.start(memory, job).await)).await.is_ok()
    }
}

/// Blocks that are verified together.
#[derive(Debug, Default)]
struct Piece {
    blocks: Vec<Unverified>,
    bytes: usize,
}

impl Piece {
    /// Adds a block; says whether there are enough.
    fn push(&mut self, block: Unverified) -> bool {
        self.bytes += block.data.len();
        self.blocks.push(block);
        self.bytes >= PIECE_BYTES || self.blocks.len() >= PIECE_BLOCKS
    }
}

/// Writes what was verified, in order, until the end.
async fn write(
    mut from: mpsc::Receiver<Option<Job<Verified>>>,
    batch: Batch,
    whole: bool,
) -> Result<Read, Error> {
    let graph = whole.then(Graph::default);
    let mut read = Read { roots: Vec::new(), batch, graph, blocks: 0, bytes: 0 };
    loop {
        let job = match from.try_recv() {
            Ok(job) => job,
            Err(mpsc::error::TryRecvError::Disconnected) => return Err(Error::GivenUp),
            Err(mpsc::error::TryRecvError::Empty) => {
                read.batch.yield_memory().await?;
                from.recv().await.ok_or(Error::GivenUp)?
            }
        };
        let Some(job) = job else { return Ok(read) };
        let (verified, memory) = job.outcome().await.ok_or(Error::GivenUp)?;
        let mut blocks = Vec::new();
        for (block, links) in verified? {
            // An identity CID carries its block in itself.
            if block.cid().hash().code() == IDENTITY {
                continue;
            }
            read.blocks += 1;
            if let Some(graph) = &mut read.graph
                && !graph.insert(block.cid(), &links)?
            {
                continue; // it came before
            }
            read.bytes += block.data().len() as u64;
            blocks.push(block);
        }
        read.batch.add(blocks, memory).await?;
    }
}
