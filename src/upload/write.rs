//! The second half of an upload: what was hashed becomes trees, in order, and goes to the store.

use tokio::sync::mpsc;

use super::Error;
use super::batch::Batch;
use super::names::Made;
use super::pool::{Job, Memory};
use crate::ipld;
use crate::ipld::unixfs::import::{Built, FileBuilder, Leaf, Profile};

/// Leaves of one piece of a file.
pub(super) type Hashed = Result<Vec<Leaf>, ipld::Error>;

/// What comes from the first half, in order.
#[derive(Debug)]
pub(super) enum Work {
    /// Leaves of the file under way, being hashed.
    Hashing(Job<Hashed>),
    /// Leaves of the file under way.
    Leaves(Vec<Leaf>),
    /// The file under way ends.
    FileEnd,
    /// A link.
    Link(Built),
    /// All is said. Without this, the upload was given up.
    End,
}

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) batch: Batch,
    /// Files and links, in the order they came.
    pub(super) made: Vec<Made>,
}

/// Builds and writes what comes, until the end.
pub(super) async fn write(
    mut from: mpsc::Receiver<Work>,
    batch: Batch,
    profile: Profile,
) -> Result<Written, Error> {
    let new_file = || FileBuilder::new(profile, profile.links_max());
    let mut file = new_file();
    let mut written = Written { batch, made: Vec::new() };
    loop {
        let work = match from.try_recv() {
            Ok(work) => work,
            Err(mpsc::error::TryRecvError::Disconnected) => return Err(Error::GivenUp),
            Err(mpsc::error::TryRecvError::Empty) => {
                written.batch.yield_memory().await?;
                from.recv().await.ok_or(Error::GivenUp)?
            }
        };
        match work {
            Work::Hashing(job) => {
                let (leaves, memory) = job.outcome().await.ok_or(Error::GivenUp)?;
                add_leaves(&mut file, leaves?, &mut written.batch, memory).await?;
            }
            Work::Leaves(leaves) => {
                add_leaves(&mut file, leaves, &mut written.batch, Memory::none()).await?;
            }
            Work::FileEnd => {
                let built = std::mem::replace(&mut file, new_file()).finish()?;
                written.made.push(Made::from(&built));
                written.batch.add(built.blocks, Memory::none()).await?;
            }
            Work::Link(link) => {
                written.made.push(Made::from(&link));
                written.batch.add(link.blocks, Memory::none()).await?;
            }
            Work::End => return Ok(written),
        }
    }
}

async fn add_leaves(
    file: &mut FileBuilder,
    leaves: Vec<Leaf>,
    batch: &mut Batch,
    memory: Memory,
) -> Result<(), Error> {
    let mut blocks = Vec::with_capacity(leaves.len() + 1);
    for leaf in leaves {
        blocks.extend(file.push(&leaf)?);
        blocks.push(leaf.block);
    }
    batch.add(blocks, memory).await
}
