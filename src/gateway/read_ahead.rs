//! Fetching blocks before they are needed.

mod window;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use crate::block::{Block, Cid, FetchError, Mh, codec};
use crate::ipld::AtHand;
use crate::retrieval::{Retriever, Session};

use window::Window;

/// Most blocks of one response that are under way or have come before their turn.
const ASKED_MAX: usize = 1_024;

/// Gets the blocks of one response, in the order they are needed. While blocks come without
/// waiting it does nothing else; once one has to be waited for, those behind it are fetched, too,
/// as many at once as the reader takes and the source gives.
pub struct ReadAhead {
    retriever: Retriever,
    session: Session,
    under_way: FuturesUnordered<BoxFuture<'static, Arrival>>,
    /// What is under way, and what has come before its turn.
    asked: HashMap<Mh, Asked>,
    arrived_bytes: usize,
    window: Window,
    /// What is waited for, once it was looked ahead from there.
    waiting_for: Option<Mh>,
    /// It is looked ahead again when so few are asked for.
    look_below: usize,
    /// Whether blocks have come that tell of more blocks.
    more_known: bool,
}

type Outcome = Result<Block, FetchError>;

struct Arrival {
    cid: Cid,
    outcome: Outcome,
    took: Duration,
}

enum Asked {
    UnderWay,
    Arrived {
        outcome: Outcome,
        /// Whether nobody waited for it yet when it came.
        early: bool,
    },
}

impl ReadAhead {
    /// Gets blocks for this request.
    #[must_use]
    pub fn new(retriever: Retriever, session: Session) -> Self {
        Self {
            window: Window::new(retriever.ahead_bytes()),
            retriever,
            session,
            under_way: FuturesUnordered::new(),
            asked: HashMap::new(),
            arrived_bytes: 0,
            waiting_for: None,
            look_below: 0,
            more_known: false,
        }
    }

    /// The block that is needed now. `upcoming(n, at_hand)` names up to `n` blocks that will be
    /// needed next, and may look into those at hand; it is asked only where blocks are waited for.
    pub fn poll_block(
        &mut self,
        cx: &mut Context<'_>,
        cid: &Cid,
        upcoming: impl Fn(usize, AtHand<'_>) -> Vec<Cid>,
    ) -> Poll<Outcome> {
        // What comes without waiting heeds no deadline by itself.
        if Instant::now() >= self.session.deadline() {
            let took = self.session.trace().elapsed();
            return Poll::Ready(Err(FetchError::Timeout(Box::new(*cid), took)));
        }
        let key = cid.hash();
        if !self.asked.contains_key(key) {
            if let Some(block) = self.retriever.at_hand(cid) {
                return Poll::Ready(self.given(cid, Ok(block)));
            }
            self.begin(*cid);
        }
        let mut outcome = self.take(cid);
        if outcome.is_none() {
            self.poll_arrivals(cx);
            outcome = self.take(cid);
        }
        let waits = outcome.is_none() && self.waiting_for.as_ref() != Some(key);
        if waits {
            self.waiting_for = Some(*key);
            self.window.waited();
        }
        if waits || self.runs_low() {
            self.look_ahead(&upcoming, outcome.as_ref());
            self.poll_arrivals(cx);
            outcome = outcome.or_else(|| self.take(cid));
        }
        match outcome {
            Some(outcome) => Poll::Ready(self.given(cid, outcome)),
            None => Poll::Pending,
        }
    }

    /// Whether it is time to ask for more.
    fn runs_low(&self) -> bool {
        !self.asked.is_empty()
            && (self.asked.len() <= self.look_below
                || self.more_known && self.under_way.len() <= self.window.blocks() / 2)
    }

    /// Asks for what comes behind the block that is needed now, which may be `here` already.
    fn look_ahead(
        &mut self,
        upcoming: impl Fn(usize, AtHand<'_>) -> Vec<Cid>,
        here: Option<&Outcome>,
    ) {
        self.more_known = false;
        if self.waiting_for.is_none() && self.asked.len() <= self.look_below {
            self.window.looked(self.under_way.len(), self.asked.len());
        }
        let blocks = self.window.blocks();
        let here = here.and_then(|outcome| outcome.as_ref().ok());
        let at_hand = |cid: &Cid| match self.asked.get(cid.hash()) {
            Some(Asked::Arrived { outcome: Ok(block), .. }) => block.clone().with_cid(*cid),
            Some(_) => None,
            None => here.and_then(|block| block.clone().with_cid(*cid)),
        };
        for cid in upcoming(blocks, &at_hand) {
            // While the reader waits, what came before its turn is no reason to ask for less.
            let waits = self.waiting_for.is_some() && here.is_none();
            let counted = if waits { self.under_way.len() } else { self.asked.len() };
            if counted >= blocks
                || self.asked.len() >= ASKED_MAX
                || !self.window.has_room(self.under_way.len(), self.arrived_bytes)
            {
                break;
            }
            if !self.asked.contains_key(cid.hash()) && self.retriever.at_hand(&cid).is_none() {
                self.begin(cid);
            }
        }
        self.look_below = self.asked.len() / 2;
    }

    fn begin(&mut self, cid: Cid) {
        self.asked.insert(*cid.hash(), Asked::UnderWay);
        let (retriever, session, began) =
            (self.retriever.clone(), self.session.clone(), Instant::now());
        self.under_way.push(Box::pin(async move {
            let outcome = retriever.block(&cid, &session).await;
            Arrival { cid, outcome, took: began.elapsed() }
        }));
    }

    /// Moves what is under way on, until everything waits.
    fn poll_arrivals(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(arrival)) = self.under_way.poll_next_unpin(cx) {
            let Arrival { cid, outcome, took } = arrival;
            let early = self.waiting_for.as_ref() != Some(cid.hash());
            let bytes = outcome.as_ref().map_or(0, |block| block.data().len());
            self.window.came(bytes, took);
            if early && self.window.is_over(self.arrived_bytes + bytes) {
                // It is on disk, or will be.
                self.asked.remove(cid.hash());
                continue;
            }
            self.arrived_bytes += bytes;
            self.more_known |= cid.codec() != codec::RAW;
            self.asked.insert(*cid.hash(), Asked::Arrived { outcome, early });
        }
        self.window.holds(self.under_way.len(), self.arrived_bytes);
    }

    /// Takes what has come. What failed before its turn is tried again now that it is needed.
    fn take(&mut self, cid: &Cid) -> Option<Outcome> {
        let Entry::Occupied(entry) = self.asked.entry(*cid.hash()) else { return None };
        match entry.get() {
            Asked::UnderWay => return None,
            Asked::Arrived { outcome: Err(FetchError::Blocked(_)), .. }
            | Asked::Arrived { outcome: Ok(_), .. }
            | Asked::Arrived { early: false, .. } => {}
            Asked::Arrived { .. } => {
                self.begin(*cid);
                return None;
            }
        }
        let Asked::Arrived { outcome, .. } = entry.remove() else { return None };
        self.arrived_bytes -= outcome.as_ref().map_or(0, |block| block.data().len());
        Some(outcome)
    }

    fn given(&mut self, cid: &Cid, outcome: Outcome) -> Outcome {
        self.waiting_for = None;
        outcome?.with_cid(*cid).ok_or_else(|| FetchError::NotFound(Box::new(*cid)))
    }
}

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadAhead")
            .field("under_way", &self.under_way.len())
            .field("asked", &self.asked.len())
            .finish_non_exhaustive()
    }
}
