//! The fetch of one block: which source is asked when, and when it is over.

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
/// How long a block that nobody has is asked for again: it may just be on its way to whoever we
/// know, or they on their way to us.
const LINGER: Duration = Duration::from_secs(5);
/// The same where somebody gave this request other blocks: whoever has a part of a DAG mostly has
/// all of it, and may only have been busy.
const LINGER_PROVEN: Duration = Duration::from_secs(15);
/// How often it is asked for again meanwhile.
const ASK_AGAIN_EVERY: Duration = Duration::from_millis(500);

/// Where a fetch stands with one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Not asked yet.
    Held,
    /// Asked, when it had been given somebody to ask so often.
    Asked(u64),
    /// It knows nobody who has it; then likewise.
    Lacking(u64),
    /// It failed or lied, and is asked no more unless it is given somebody else.
    Failed(u64),
}

type Answer = (usize, Instant, Result<Block, FetchError>);

struct Fetch<'a> {
    search: &'a Arc<Search>,
    cid: Cid,
    context: &'a FetchContext,
    stands: Vec<Stand>,
    race: FuturesUnordered<BoxFuture<'a, Answer>>,
    lookup: Option<Arc<Lookup>>,
    began: Instant,
    /// When those that are held back are asked, and when providers are looked for.
    all_at: Instant,
    search_at: Instant,
    /// When those that lack it are asked again.
    again_at: Option<Instant>,
    /// The worst that a source said.
    worst: Option<FetchError>,
}

/// Fetches a block from whichever source gives it first: from the one that gave this request its
/// blocks so far, after a while from all. Providers are looked for where nobody known has it, or
/// it is long in coming.
pub(super) async fn fetch(search: Arc<Search>, cid: Cid, deadline: Instant) -> Outcome {
    let context = FetchContext { deadline };
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
            began,
            all_at: began + patience,
            search_at: began + patience.max(SEARCH_AFTER),
            again_at: None,
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
            if self.race.is_empty() && self.is_over() {
                return Err(self.lost(false));
            }
            let next = self.next_at();
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                Some((place, asked_at, outcome)) = self.race.next(), if !self.race.is_empty() => {
                    if let Some(outcome) = self.answered(place, asked_at, outcome) {
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
        self.race.push(Box::pin(async move { (place, asked_at, asked.await) }));
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
                Some(Stand::Lacking(then) | Stand::Failed(then)) if stale(*then) => self.ask(place),
                _ => {}
            }
        }
    }

    /// The outcome, once there is one.
    fn answered(
        &mut self,
        place: usize,
        asked_at: Instant,
        outcome: Result<Block, FetchError>,
    ) -> Option<Outcome> {
        let source = self.search.sources().get(place)?;
        let stand = self.stands.get_mut(place)?;
        let then = if let Stand::Asked(then) = stand { *then } else { 0 };
        match outcome {
            Ok(block) if block.cid().hash() == self.cid.hash() => {
                let took = asked_at.elapsed();
                source.rung.gave(block.data().len(), took);
                self.search.gave(place, took);
                return Some(Ok((block, source.name)));
            }
            Err(FetchError::NotFound(_)) => {
                source.rung.lacked();
                *stand = Stand::Lacking(then);
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
        if self.race.is_empty() {
            // Whoever gave the others has it not.
            self.ask_where(|stand| stand == Stand::Held);
        }
        if self.race.is_empty() {
            self.look();
        }
        None
    }

    fn look(&mut self) {
        if self.lookup.is_none() {
            self.lookup = self.search.look_for(&self.cid);
            // What was found by others a moment ago is there at once.
            self.ask_those_with_news();
            if self.lookup.is_none() {
                self.search_at = Instant::now() + ASK_AGAIN_EVERY;
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
        if self.again_at.is_some_and(|at| now >= at) {
            self.again_at = None;
            self.ask_where(|stand| matches!(stand, Stand::Lacking(_)));
        }
    }

    /// Whether nothing is left that could bring the block. Where it is asked for again soon, it is
    /// noted when.
    fn is_over(&mut self) -> bool {
        self.look();
        let searched = match &self.lookup {
            Some(lookup) => lookup.is_over(),
            None => self.search.is_spent(),
        };
        if !self.race.is_empty() {
            return false;
        }
        let now = Instant::now();
        let lacking = self.stands.iter().any(|stand| matches!(stand, Stand::Lacking(_)));
        let linger = if self.search.lead().is_some() { LINGER_PROVEN } else { LINGER };
        let lingers = lacking && now < self.began + linger;
        if lingers {
            self.again_at.get_or_insert(now + ASK_AGAIN_EVERY);
        }
        searched && !lingers
    }

    /// When something is to be done although nothing has happened.
    fn next_at(&self) -> Instant {
        let held = self.stands.contains(&Stand::Held).then_some(self.all_at);
        let search = self.lookup.is_none().then_some(self.search_at);
        let soon = [held, search, self.again_at].into_iter().flatten().min();
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
