//! The fetch of one block: which source is asked when, and when it is over.
//!
//! **A fetch ends as soon as nothing can come any more:** no source is being asked, every search for
//! providers is over, and nobody is left who might come by the block and tell. The last is for the
//! sources to say ([`SourceSession::await_late`](crate::provider::SourceSession::await_late)): a
//! peer that keeps our want on its list, or has connected and not yet said what it speaks, might;
//! an HTTP provider that answered 404 will not. Such a wait lasts [`LATE`] from the beginning, and
//! where somebody gave this request blocks before, and may only be slow, [`SLOW`] from when they
//! were given up. With nobody to ask, a fetch ends at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::block::{Block, Cid, FetchError};
use crate::provider::{FetchContext, Want};

use super::flight::Outcome;
use super::lookup::Lookup;
use super::search::Search;

/// How long a block may be on its way before providers are looked for, although somebody is asked.
const SEARCH_AFTER: Duration = Duration::from_secs(1);
/// How long it is waited for somebody to come by a block that all have said they lack: it may just
/// be on its way to whoever we know, or they on their way to us.
const LATE: Duration = Duration::from_secs(5);
/// How long it is waited for those who gave blocks of the same request, and were silent for too long.
const SLOW: Duration = Duration::from_secs(10);
/// How often it is tried to begin a search, while the request has too many under way.
const SEARCH_AGAIN_EVERY: Duration = Duration::from_millis(500);

/// Where a fetch stands with one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Not asked yet.
    Held,
    /// Asked, when it had been given somebody to ask so often.
    Asked(u64),
    /// It knows nobody who has it; then likewise.
    Lacking(u64),
    /// The same, but somebody may yet come by it, and that is waited for.
    Awaited(u64),
    /// It failed or lied, and is asked no more unless it is given somebody else.
    Failed(u64),
}

type Answer = (usize, Said, Result<Block, FetchError>);

/// What a source answers.
#[derive(Debug, Clone, Copy)]
enum Said {
    /// That it was asked, then.
    Asked(Instant),
    /// That somebody might come by the block.
    Late,
}

struct Fetch<'a> {
    search: &'a Arc<Search>,
    cid: Cid,
    context: &'a FetchContext,
    stands: Vec<Stand>,
    race: FuturesUnordered<BoxFuture<'a, Answer>>,
    lookup: Option<Arc<Lookup>>,
    /// The search for providers of what the block belongs to.
    root_lookup: Option<Arc<Lookup>>,
    /// Where somebody who comes by the block is waited for.
    late: Vec<bool>,
    late_until: Instant,
    began: Instant,
    /// When those that are held back are asked, and when providers are looked for.
    all_at: Instant,
    search_at: Instant,
    /// The worst that a source said.
    worst: Option<FetchError>,
}

/// Fetches a block from whichever source gives it first: from the one that gave this request its
/// blocks so far, after a while from all. Providers are looked for where nobody known has it, or
/// it is long in coming.
pub(super) async fn fetch(search: Arc<Search>, cid: Cid, deadline: Instant) -> Outcome {
    let context = FetchContext { deadline, root: search.root() };
    Fetch::new(&search, cid, &context).run().await
}

impl<'a> Fetch<'a> {
    fn new(search: &'a Arc<Search>, cid: Cid, context: &'a FetchContext) -> Self {
        let began = Instant::now();
        let patience = search.lead().map_or(Duration::ZERO, |(_, patience)| patience);
        Self {
            search,
            cid,
            context,
            stands: vec![Stand::Held; search.sources().len()],
            race: FuturesUnordered::new(),
            lookup: None,
            root_lookup: None,
            late: vec![false; search.sources().len()],
            late_until: began + LATE,
            began,
            all_at: began + patience,
            search_at: began + patience.max(SEARCH_AFTER),
            worst: None,
        }
    }

    async fn run(mut self) -> Outcome {
        let mut changes = self.search.changes();
        match self.search.lead() {
            Some((lead, _)) => self.ask(lead),
            None => self.ask_where(|stand| stand == Stand::Held),
        }
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.next_at()));
        loop {
            if Instant::now() >= self.context.deadline {
                return Err(self.lost(true));
            }
            if self.is_over() {
                return Err(self.lost(false));
            }
            let next = self.next_at();
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                Some((place, said, outcome)) = self.race.next(), if !self.race.is_empty() => {
                    if let Some(outcome) = self.answered(place, said, outcome) {
                        return outcome;
                    }
                }
                Ok(()) = changes.changed() => self.ask_those_with_news(),
                () = &mut timer => self.on_time(),
            }
        }
    }

    fn ask(&mut self, place: usize) {
        let (Some(source), Some(stand)) =
            (self.search.sources().get(place), self.stands.get_mut(place))
        else {
            return;
        };
        *stand = Stand::Asked(source.generation());
        let (want, context, asked_at) = (Want { cid: self.cid }, self.context, Instant::now());
        let asked = source.session.fetch(want, context);
        self.race.push(Box::pin(async move { (place, Said::Asked(asked_at), asked.await) }));
    }

    /// Whether a source is to say yet whether it has the block.
    fn is_asking(&self) -> bool {
        self.stands.iter().any(|stand| matches!(stand, Stand::Asked(_)))
    }

    /// A source knows nobody who has it: from now on it is waited for somebody who comes by it.
    fn await_late(&mut self, place: usize, then: u64) {
        let (Some(source), Some(stand), Some(late)) = (
            self.search.sources().get(place),
            self.stands.get_mut(place),
            self.late.get_mut(place),
        ) else {
            return;
        };
        *stand = Stand::Awaited(then);
        if source.session.met().gave > 0 {
            self.late_until = Instant::now() + SLOW;
        }
        if !std::mem::replace(late, true) {
            let wait = source.session.await_late(Want { cid: self.cid }, self.context);
            self.race.push(Box::pin(async move { (place, Said::Late, wait.await) }));
        }
    }

    fn ask_where(&mut self, is_asked: impl Fn(Stand) -> bool) {
        for place in 0..self.stands.len() {
            if self.stands.get(place).is_some_and(|stand| is_asked(*stand)) {
                self.ask(place);
            }
        }
    }

    /// Asks those again that were given somebody to ask since.
    fn ask_those_with_news(&mut self) {
        for place in 0..self.stands.len() {
            let Some(source) = self.search.sources().get(place) else { return };
            let stale = |then: u64| source.generation() > then;
            match self.stands.get(place) {
                Some(Stand::Lacking(then) | Stand::Failed(then) | Stand::Awaited(then))
                    if stale(*then) =>
                {
                    self.ask(place);
                }
                _ => {}
            }
        }
    }

    /// The outcome, once there is one.
    fn answered(
        &mut self,
        place: usize,
        said: Said,
        outcome: Result<Block, FetchError>,
    ) -> Option<Outcome> {
        let source = self.search.sources().get(place)?;
        let stand = self.stands.get_mut(place)?;
        let then = match (*stand, said) {
            (Stand::Asked(then), Said::Asked(_)) => then,
            (_, Said::Asked(_)) => 0,
            // Whatever it waited for is gone. Where it is asked anew, that is still to be answered.
            (now, Said::Late) if outcome.is_err() => {
                if let Stand::Awaited(then) = now {
                    *stand = Stand::Lacking(then);
                }
                *self.late.get_mut(place)? = false;
                self.ask_those_with_news();
                return None;
            }
            (_, Said::Late) => 0,
        };
        match outcome {
            Ok(block) if block.cid().hash() == self.cid.hash() => {
                let asked_at = if let Said::Asked(at) = said { at } else { self.began };
                let took = asked_at.elapsed();
                source.rung.gave(block.data().len(), took);
                self.search.gave(place, took);
                return Some(Ok((block, source.name)));
            }
            Err(FetchError::NotFound(_)) => {
                source.rung.lacked();
                self.await_late(place, then);
            }
            Err(error @ (FetchError::Blocked(_) | FetchError::Store(_))) => {
                return Some(Err(error));
            }
            // It gave a block, but another one: as good as none.
            Ok(_) => {
                source.rung.failed();
                *stand = Stand::Failed(then);
            }
            Err(error) => {
                source.rung.failed();
                *stand = Stand::Failed(then);
                self.worst = Some(error);
            }
        }
        self.ask_those_with_news();
        if !self.is_asking() {
            // Whoever gave the others has it not.
            self.ask_where(|stand| stand == Stand::Held);
        }
        if !self.is_asking() {
            self.look();
        }
        None
    }

    fn look(&mut self) {
        if self.root_lookup.is_none() {
            self.root_lookup = self.search.look_for_root(&self.cid);
            self.ask_those_with_news();
        }
        if self.lookup.is_none() {
            self.lookup = self.search.look_for(&self.cid);
            // What was found by others a moment ago is there at once.
            self.ask_those_with_news();
            if self.lookup.is_none() {
                self.search_at = Instant::now() + SEARCH_AGAIN_EVERY;
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if now >= self.all_at {
            self.ask_where(|stand| stand == Stand::Held);
        }
        if now >= self.search_at {
            self.look();
        }
    }

    /// Whether nothing is left that could bring the block.
    fn is_over(&mut self) -> bool {
        if self.is_asking() {
            return false;
        }
        self.look();
        let searched = match &self.lookup {
            Some(lookup) => lookup.is_over(),
            None => self.search.is_spent(),
        };
        let searched = searched && self.root_lookup.as_ref().is_none_or(|root| root.is_over());
        searched && !self.is_asking() && !self.is_late()
    }

    /// Whether it is still waited for somebody who comes by the block.
    fn is_late(&self) -> bool {
        Instant::now() < self.late_until
            && self.stands.iter().any(|stand| matches!(stand, Stand::Awaited(_)))
    }

    /// When something is to be done although nothing has happened.
    fn next_at(&self) -> Instant {
        let held = self.stands.contains(&Stand::Held).then_some(self.all_at);
        let search = self.lookup.is_none().then_some(self.search_at);
        let late = self.is_late().then_some(self.late_until);
        let soon = [held, search, late].into_iter().flatten().min();
        soon.map_or(self.context.deadline, |at| at.min(self.context.deadline))
    }

    fn lost(&mut self, timed_out: bool) -> FetchError {
        // Where somebody had no fault, what is said of all is more than one's own words.
        let failed = self.stands.iter().all(|stand| matches!(stand, Stand::Failed(_)));
        if !timed_out
            && failed
            && let Some(worst) = self.worst.take()
        {
            return worst;
        }
        let report = self.search.report(&self.cid, self.began.elapsed(), timed_out);
        FetchError::Missing(Arc::new(report))
    }
}
