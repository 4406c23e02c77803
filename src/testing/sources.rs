//! A source and a router that do what their script says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::block::{Block, Cid, FetchError, Mh};
use crate::provider::{
    BlockSource, ContentRouter, Deed, FetchContext, Met, Provider, RouterError, SourceSession, Want,
};

/// What a [`ScriptedSource`] does when it is asked for a block.
#[derive(Debug, Clone)]
pub enum Act {
    /// Gives the block after a while.
    Give(Block, Duration),
    /// Gives the block to a session that was told of a provider; others know nobody.
    GiveOfProvider(Block, Duration),
    /// Lacks the block, and comes by it after a while: gives it to whoever waits for that.
    GiveLate(Block, Duration),
    /// Lacks the block, and keeps the want for good.
    Keep,
    /// Gives this block, whatever was asked for.
    Lie(Block),
    /// Never answers.
    Stall,
    /// Answers with an error.
    Fail(FetchError),
}

/// A source of blocks that does what its script says; it has nothing else.
#[derive(Debug, Clone, Default)]
pub struct ScriptedSource {
    name: Option<&'static str>,
    script: Arc<Mutex<Script>>,
    asked: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
    most_under_way: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Script {
    acts: HashMap<Mh, Act>,
    met: Met,
    deeds: Vec<Deed>,
    providers: Vec<Provider>,
}

impl ScriptedSource {
    /// A source of this name.
    #[must_use]
    pub fn named(name: &'static str) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what to do when `cid` is asked for.
    pub fn on(&self, cid: &Cid, act: Act) {
        self.script().acts.insert(*cid.hash(), act);
    }

    /// Says whom its sessions met.
    pub fn meets(&self, met: Met) {
        self.script().met = met;
    }

    /// Says what providers did for its sessions.
    pub fn does(&self, deeds: Vec<Deed>) {
        self.script().deeds = deeds;
    }

    /// How many fetches were begun.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many fetches have neither ended nor been given up.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// How many fetches were under way at once, at most.
    #[must_use]
    pub fn most_under_way(&self) -> usize {
        self.most_under_way.load(Ordering::SeqCst)
    }

    /// The providers its sessions were told of, in order.
    #[must_use]
    pub fn providers(&self) -> Vec<Provider> {
        self.script().providers.clone()
    }
}

impl BlockSource for ScriptedSource {
    fn name(&self) -> &'static str {
        self.name.unwrap_or("scripted")
    }

    fn open(&self) -> Arc<dyn SourceSession> {
        Arc::new(ScriptedSession { source: self.clone(), providers: AtomicUsize::new(0) })
    }
}

#[derive(Debug)]
struct ScriptedSession {
    source: ScriptedSource,
    /// How many this session was told of.
    providers: AtomicUsize,
}

impl SourceSession for ScriptedSession {
    fn fetch<'a>(
        &'a self,
        want: Want,
        _: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>> {
        let act = self.source.script().acts.get(want.cid.hash()).cloned();
        let under_way = UnderWay::begin(&self.source);
        let lacks = FetchError::NotFound(Box::new(want.cid));
        async move {
            let _under_way = under_way;
            match act {
                Some(Act::GiveOfProvider(..)) if self.providers.load(Ordering::SeqCst) == 0 => {
                    Err(lacks)
                }
                Some(Act::Give(block, delay) | Act::GiveOfProvider(block, delay)) => {
                    if !delay.is_zero() {
                        tokio::time::sleep(delay).await;
                    }
                    Ok(block)
                }
                Some(Act::Lie(block)) => Ok(block),
                Some(Act::Stall) => std::future::pending().await,
                Some(Act::Fail(error)) => Err(error),
                Some(Act::GiveLate(..) | Act::Keep) | None => Err(lacks),
            }
        }
        .boxed()
    }

    fn await_late<'a>(
        &'a self,
        want: Want,
        _: &'a FetchContext,
    ) -> BoxFuture<'a, Result<Block, FetchError>> {
        let act = self.source.script().acts.get(want.cid.hash()).cloned();
        async move {
            match act {
                Some(Act::GiveLate(block, delay)) => {
                    tokio::time::sleep(delay).await;
                    Ok(block)
                }
                Some(Act::Keep) => std::future::pending().await,
                _ => Err(FetchError::NotFound(Box::new(want.cid))),
            }
        }
        .boxed()
    }

    fn add_provider(&self, provider: &Provider) -> bool {
        self.providers.fetch_add(1, Ordering::SeqCst);
        self.source.script().providers.push(provider.clone());
        true
    }

    fn met(&self) -> Met {
        self.source.script().met
    }

    fn deeds(&self) -> Vec<Deed> {
        self.source.script().deeds.clone()
    }
}

struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(source: &ScriptedSource) -> Self {
        source.asked.fetch_add(1, Ordering::SeqCst);
        let now = source.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        source.most_under_way.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(&source.under_way))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A router that names these providers, whatever the block, each so long after the one before.
#[derive(Debug, Clone, Default)]
pub struct ScriptedRouter {
    script: Arc<Vec<(Duration, Result<Provider, RouterError>)>>,
    only: Option<Mh>,
    asked: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
}

impl ScriptedRouter {
    /// A router that names these.
    #[must_use]
    pub fn naming(script: Vec<(Duration, Result<Provider, RouterError>)>) -> Self {
        Self { script: Arc::new(script), ..Self::default() }
    }

    /// The same for this block alone: of others it knows nobody.
    #[must_use]
    pub fn of(self, cid: &Cid) -> Self {
        Self { only: Some(*cid.hash()), ..self }
    }

    /// How many searches were begun.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many searches have neither ended nor been given up.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }
}

impl ContentRouter for ScriptedRouter {
    fn providers(
        &self,
        cid: &Cid,
        _: Instant,
    ) -> BoxStream<'static, Result<Provider, RouterError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let is_known = self.only.is_none_or(|only| only == *cid.hash());
        let first = if is_known { 0 } else { self.script.len() };
        let begun = (Arc::clone(&self.script), first, UnderWay(Arc::clone(&self.under_way)));
        futures_util::stream::unfold(begun, |(script, next, under_way)| async move {
            let (delay, outcome) = script.get(next)?.clone();
            tokio::time::sleep(delay).await;
            Some((outcome, (script, next + 1, under_way)))
        })
        .boxed()
    }

    fn describe(&self) -> Arc<str> {
        "the scripted router".into()
    }
}
