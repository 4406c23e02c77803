//! Fetching blocks before they are needed.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use crate::block::{Block, Cid, FetchError, Mh};
use crate::retrieval::{Retriever, Session};

/// How many blocks are asked for ahead when something first has to be waited for. It doubles with
/// each further wait: many who open a file leave after its beginning.
const WINDOW_FIRST: usize = 2;
/// Most blocks under way or waiting.
const WINDOW_MAX: usize = 32;
/// Most bytes under way or waiting, reckoned with the largest block seen.
const AHEAD_BYTES_MAX: usize = 8 << 20;

/// Gets the blocks of one response, in the order they are needed. While blocks come without
/// waiting it does nothing else; once one has to be waited for, those behind it are fetched, too.
pub(super) struct ReadAhead {
    retriever: Retriever,
    session: Session,
    under_way: FuturesUnordered<BoxFuture<'static, (Mh, Outcome)>>,
    arrived: Vec<(Mh, Outcome)>,
    /// What is under way or has arrived.
    asked: Vec<Mh>,
    window: usize,
    block_bytes_max: usize,
    /// What is waited for, once it was looked ahead from there.
    waiting_for: Option<Mh>,
}

type Outcome = Result<Block, FetchError>;

impl ReadAhead {
    pub(super) fn new(retriever: Retriever, session: Session) -> Self {
        Self {
            retriever,
            session,
            under_way: FuturesUnordered::new(),
            arrived: Vec::new(),
            asked: Vec::new(),
            window: WINDOW_FIRST,
            block_bytes_max: 1,
            waiting_for: None,
        }
    }

    /// The block that is needed now. `upcoming(n)` names up to `n` blocks that will be needed
    /// next, and is asked only when there is a wait.
    pub(super) fn poll_block<I: Iterator<Item = Cid>>(
        &mut self,
        cx: &mut Context<'_>,
        cid: &Cid,
        upcoming: impl FnOnce(usize) -> I,
    ) -> Poll<Outcome> {
        // What comes without waiting heeds no deadline by itself.
        if Instant::now() >= self.session.deadline() {
            let took = self.session.trace().elapsed();
            return Poll::Ready(Err(FetchError::Timeout(Box::new(*cid), took)));
        }
        let key = cid.hash();
        if let Some(outcome) = self.take(key) {
            return Poll::Ready(self.given(cid, outcome));
        }
        if !self.asked.contains(key) {
            if let Some(block) = self.retriever.at_hand(cid) {
                return Poll::Ready(self.given(cid, Ok(block)));
            }
            self.begin(*cid);
        }
        if let Some(outcome) = self.poll_for(cx, key) {
            return Poll::Ready(self.given(cid, outcome));
        }
        if self.waiting_for.as_ref() != Some(key) {
            self.waiting_for = Some(*key);
            self.window = (self.window * 2).min(WINDOW_MAX);
            self.look_ahead(upcoming(self.window));
            if let Some(outcome) = self.poll_for(cx, key) {
                return Poll::Ready(self.given(cid, outcome));
            }
        }
        Poll::Pending
    }

    fn look_ahead(&mut self, upcoming: impl Iterator<Item = Cid>) {
        let room = AHEAD_BYTES_MAX / self.block_bytes_max;
        for cid in upcoming {
            if self.asked.len() >= room.min(self.window) {
                break;
            }
            if !self.asked.contains(cid.hash()) && self.retriever.at_hand(&cid).is_none() {
                self.begin(cid);
            }
        }
    }

    fn begin(&mut self, cid: Cid) {
        self.asked.push(*cid.hash());
        let (retriever, session) = (self.retriever.clone(), self.session.clone());
        self.under_way
            .push(Box::pin(async move { (*cid.hash(), retriever.block(&cid, &session).await) }));
    }

    /// Moves what is under way on, until `key` has arrived or everything waits.
    fn poll_for(&mut self, cx: &mut Context<'_>, key: &Mh) -> Option<Outcome> {
        while let Poll::Ready(Some((arrived, outcome))) = self.under_way.poll_next_unpin(cx) {
            if arrived == *key {
                self.asked.retain(|asked| asked != key);
                return Some(outcome);
            }
            self.arrived.push((arrived, outcome));
        }
        None
    }

    fn take(&mut self, key: &Mh) -> Option<Outcome> {
        let at = self.arrived.iter().position(|(arrived, _)| arrived == key)?;
        self.asked.retain(|asked| asked != key);
        Some(self.arrived.swap_remove(at).1)
    }

    fn given(&mut self, cid: &Cid, outcome: Outcome) -> Outcome {
        self.waiting_for = None;
        let block = outcome?;
        self.block_bytes_max = self.block_bytes_max.max(block.data().len());
        block.with_cid(*cid).ok_or_else(|| FetchError::NotFound(Box::new(*cid)))
    }
}

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadAhead")
            .field("under_way", &self.under_way.len())
            .field("arrived", &self.arrived.len())
            .finish_non_exhaustive()
    }
}
