//! One EBT stream: its tasks for both directions.
//!
//! What comes in is sorted into notes and messages, and messages go to the store in batches, of which a few are under way:
//! while some are verified the next gathers, and when all are, nothing more is read from the peer. What goes out is read
//! from the log in runs, the next ones while the last are being sent. Neither direction waits for the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use sbot_feed::FeedId;
use sbot_rpc::{Body, CallError, Inlet, Outlet, Peer, RpcError};
use sbot_store::{Ingested, Refusal, Store};
use serde::{Deserialize, Serialize};

use crate::ebt::{Accept, Item, Link, Outcome, Run, read_item, write_notes};
use crate::replicator::{Bell, Core, Inner, Replicator};
use crate::stream::{Incoming, Outgoing};

/// Messages that go to the store at once.
pub(crate) const BATCH: usize = 1024;

/// Bytes that go to the store at once: below what it takes as one piece, so that batches can't overtake each other.
pub(crate) const BATCH_BYTES: usize = 768 * 1024;

/// Full batches under way to the store.
const UNDER_WAY: usize = 4;

/// While fewer batches are under way, one that isn't full goes too: what comes alone is stored at once.
const AT_LEAST: usize = 2;

/// Messages read from the log at once.
const AT_ONCE: usize = 1024;

/// Bytes of the log that are read at once, but for what the last run has more. A peer that reads nothing costs twice that:
/// what is read, and what waits to be sent.
const BYTES_AT_ONCE: u64 = 256 * 1024;

/// Messages of one feed before the next one has its turn.
const RUN: usize = 128;

/// Items in a row that are neither notes nor asked for, after which a stream is given up.
const MAX_STRANGE: u32 = 16_384;

/// Why an EBT stream is over, other than by the peer's wish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The peer ended it with an error, or hung up.
    #[error(transparent)]
    Peer(#[from] CallError),
    /// Nothing that comes was asked for.
    #[error("{MAX_STRANGE} items in a row were neither notes nor messages that were asked for")]
    Strange,
    /// We can't read the log.
    #[error("messages can't be read: {0}")]
    Read(String),
    /// The peer has opened another one, or may not have one any more.
    #[error("reconnected to peer")]
    Replaced,
}

/// `ebt.replicate`'s argument.
#[derive(Serialize)]
struct Ask {
    version: u32,
    format: &'static str,
}

#[derive(Deserialize)]
struct Asked {
    version: Option<f64>,
    format: Option<String>,
}

/// The version of EBT that is spoken.
const VERSION: u32 = 3;
/// The feed format that is replicated (ssb-ebt 9).
const FORMAT: &str = "classic";

impl Replicator {
    /// Serves `ebt.replicate`: `args` is the call's JSON array. Returns when the stream is over.
    ///
    /// # Errors
    /// What to answer to a caller that speaks another version or another format, or whom we serve no EBT.
    pub async fn serve(&self, id: FeedId, args: &[u8], inlet: Inlet, outlet: Outlet) -> Result<(), RpcError> {
        let refuse = |message: &str| Err(RpcError::new(message));
        let asked: (Asked,) = match serde_json::from_slice(args) {
            Ok(asked) => asked,
            Err(_) => return refuse("expected ebt.replicate({version: 3})"),
        };
        if asked.0.version != Some(f64::from(VERSION)) {
            return refuse("expected ebt.replicate({version: 3})");
        }
        if asked.0.format.is_some_and(|format| format != FORMAT) {
            return refuse("ebt.replicate: unknown format, only classic feeds are replicated");
        }
        if !self.0.options.ebt {
            return refuse("EBT is switched off here");
        }
        if id == self.0.own {
            return refuse("ebt.replicate is for peers: this is our own key");
        }
        let (result, _) = self.exchange(id, false, Incoming::Served(inlet), Outgoing::Served(outlet)).await;
        match result {
            Ok(()) | Err(LinkError::Peer(_)) => Ok(()),
            Err(error) => {
                tracing::warn!(peer = %id, %error, "EBT ended");
                Err(RpcError::new(error.to_string()))
            }
        }
    }

    /// Calls `ebt.replicate` and speaks EBT until it is over; answers false if the peer doesn't.
    pub(crate) async fn call(&self, id: FeedId, peer: &Peer) -> bool {
        let ask = [Ask { version: VERSION, format: FORMAT }];
        let (sink, source) = match peer.duplex("ebt.replicate", &ask).await {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(peer = %id, %error, "ebt.replicate can't be called");
                return false;
            }
        };
        let (result, spoke) = self.exchange(id, true, Incoming::Called(source), Outgoing::Called(sink)).await;
        match result {
            Err(error @ (LinkError::Strange | LinkError::Read(_))) => tracing::warn!(peer = %id, %error, "EBT ended"),
            Err(error) => tracing::debug!(peer = %id, %error, spoke, "EBT ended"),
            Ok(()) => tracing::debug!(peer = %id, spoke, "EBT ended"),
        }
        spoke
    }

    /// Speaks EBT until either side is done; also answers whether the peer ever said anything.
    async fn exchange(&self, id: FeedId, dialed: bool, from: Incoming, to: Outgoing) -> (Result<(), LinkError>, bool) {
        let inner = Arc::clone(&self.0);
        // Unknown is safe: the peer is told everything.
        let stored = tokio::task::spawn_blocking(move || inner.clocks.load(&id)).await.unwrap_or_default();
        // What was imported a moment ago need not be asked for.
        self.0.catch_up();
        let open = Open::new(&self.0, id, dialed, &stored);
        let spoke = AtomicBool::new(false);
        let result = tokio::select! {
            result = open.read(from, &spoke) => result,
            result = open.write(to) => result,
            () = open.bell.gone.notified() => Err(LinkError::Replaced),
        };
        (result, spoke.load(Ordering::Relaxed))
    }
}

/// An open stream. When it is dropped, however that comes, its clock is saved.
struct Open<'a> {
    inner: &'a Arc<Inner>,
    peer: FeedId,
    link: Link,
    bell: Arc<Bell>,
}

impl<'a> Open<'a> {
    fn new(inner: &'a Arc<Inner>, peer: FeedId, dialed: bool, stored: &[(FeedId, i64)]) -> Open<'a> {
        let bell = Arc::new(Bell::default());
        let link = inner.with(|core, now| {
            let replaced = core.ebt.link_of(&peer).map(|old| {
                if let Some(bell) = core.bells.remove(&old) {
                    bell.gone.notify_one();
                }
                core.ebt.disconnect(old, now)
            });
            let link = core.ebt.connect(peer, dialed, replaced.as_deref().unwrap_or(stored), now);
            core.bells.insert(link, Arc::clone(&bell));
            link
        });
        // it was woken before its bell hung
        bell.work.notify_one();
        tracing::debug!(%peer, dialed, "EBT begins");
        Open { inner, peer, link, bell }
    }

    async fn read(&self, mut from: Incoming, spoke: &AtomicBool) -> Result<(), LinkError> {
        let mut items = Vec::new();
        let mut gathered = Gathered::default();
        let mut under_way = UnderWay::default();
        let mut strange = 0;
        let result = loop {
            tokio::select! {
                biased;
                (sent, done) = under_way.next(), if under_way.any() => self.settle(&sent, done),
                count = from.recv_many(&mut items), if under_way.count() < UNDER_WAY => match count {
                    Ok(0) => break Ok(()),
                    Ok(_) => {
                        spoke.store(true, Ordering::Relaxed);
                        for full in self.sort(&mut items, &mut gathered, &mut strange)? {
                            under_way.push(&self.inner.store, full);
                        }
                    }
                    Err(error) => break Err(error.into()),
                },
            }
            if under_way.count() < AT_LEAST && !gathered.sent.is_empty() {
                under_way.push(&self.inner.store, std::mem::take(&mut gathered));
            }
        };
        // what was handed over is stored, and the clock should know
        if !gathered.sent.is_empty() {
            under_way.push(&self.inner.store, gathered);
        }
        while under_way.any() {
            let (sent, done) = under_way.next().await;
            self.settle(&sent, done);
        }
        result
    }

    /// Tells notes from messages; those that were asked for are gathered. Answers with the batches that are full.
    fn sort(
        &self,
        items: &mut Vec<Body>,
        gathered: &mut Gathered,
        strange: &mut u32,
    ) -> Result<Vec<Gathered>, LinkError> {
        let read: Vec<(Item, Bytes)> = items
            .drain(..)
            .map(|body| match body {
                Body::Json(json) => (read_item(&json), json),
                other => (Item::Garbage, other.into_bytes()),
            })
            .collect();
        let mut full = Vec::new();
        self.inner.with(|core, now| {
            for (item, json) in read {
                match item {
                    Item::Notes(notes) => {
                        if notes.notes.is_empty() && notes.ignored > 0 {
                            *strange += 1;
                        } else {
                            core.ebt.heard(self.link, &notes, now);
                        }
                    }
                    Item::Message { author, sequence } => match core.ebt.accept(self.link, &author, sequence, now) {
                        Accept::Take => {
                            *strange = 0;
                            gathered.bytes += json.len();
                            gathered.sent.push((author, sequence));
                            gathered.messages.push(json);
                            if gathered.is_full() {
                                full.push(std::mem::take(gathered));
                            }
                        }
                        Accept::Known | Accept::Stopped => {}
                        Accept::Unasked => *strange += 1,
                    },
                    Item::Garbage => *strange += 1,
                }
            }
        });
        if *strange > MAX_STRANGE { Err(LinkError::Strange) } else { Ok(full) }
    }

    /// Tells the state machine what became of a batch. What our own disk didn't take is asked for again later.
    fn settle(&self, sent: &[(FeedId, u64)], done: Vec<Ingested>) {
        let mut failed = None;
        self.inner.with(|core, now| {
            for ((author, sequence), ingested) in sent.iter().zip(done) {
                match outcome(ingested) {
                    Ok(outcome) => core.ebt.outcome(self.link, author, *sequence, outcome, now),
                    Err(error) => failed = Some(error),
                }
            }
            core.ebt.spread(now);
        });
        if let Some(error) = failed {
            tracing::error!(peer = %self.peer, error, "messages can't be stored");
        }
    }

    async fn write(&self, mut to: Outgoing) -> Result<(), LinkError> {
        let mut ready: Option<Vec<Body>> = None;
        loop {
            while let Some(notes) = self.inner.with(|core, _| core.ebt.take_notes(self.link)) {
                to.send(Body::Json(write_notes(&notes))).await?;
            }
            let runs = self.inner.with(|core, _| self.runs(core));
            let idle = runs.is_empty() && ready.is_none();
            let reading = (!runs.is_empty()).then(|| {
                let store = self.inner.store.clone();
                tokio::task::spawn_blocking(move || read_runs(&store, &runs))
            });
            if let Some(bodies) = ready.take() {
                to.send_many(bodies).await?;
            }
            if let Some(reading) = reading {
                let (bodies, short) = reading.await.map_err(|error| LinkError::Read(error.to_string()))?;
                if !short.is_empty() {
                    self.inner.with(|core, _| short.iter().for_each(|feed| core.ebt.failed_run(self.link, feed)));
                }
                ready = Some(bodies);
            }
            if idle {
                self.bell.work.notified().await;
            }
        }
    }

    fn runs(&self, core: &mut Core) -> Vec<Run> {
        let (mut runs, mut count, mut bytes) = (Vec::new(), 0, 0);
        while count < AT_ONCE
            && bytes < BYTES_AT_ONCE
            && let Some(run) = core.ebt.next_run(self.link, RUN.min(AT_ONCE - count))
        {
            count += run.count;
            bytes += self.inner.store.feed_bytes(&run.feed, run.from, run.count);
            runs.push(run);
        }
        runs
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let clock = self.inner.with(|core, now| {
            core.bells.remove(&self.link);
            core.ebt.disconnect(self.link, now)
        });
        // nothing: another stream with this peer goes on with the clock
        if clock.is_empty() {
            return;
        }
        let (inner, peer) = (Arc::clone(self.inner), self.peer);
        let save = move || inner.clocks.save(&peer, &clock);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(save)),
            Err(_) => save(),
        }
    }
}

/// What the state machine is told; `Err` if not the message but the store is at fault.
pub(crate) fn outcome(ingested: Ingested) -> Result<Outcome, String> {
    Ok(match ingested {
        Ingested::Stored { .. } => Outcome::Stored,
        Ingested::Duplicate { .. } => Outcome::Duplicate,
        Ingested::Gap { tip, .. } => Outcome::Gap { have: tip },
        Ingested::Fork { .. } => Outcome::Fork,
        Ingested::Invalid { error: Refusal::Store(error), .. } => return Err(error),
        Ingested::Invalid { error: Refusal::Message(error), .. } => Outcome::Invalid { error: error.to_string() },
    })
}

/// Messages of these runs, and feeds of which some couldn't be read.
fn read_runs(store: &Store, runs: &[Run]) -> (Vec<Body>, Vec<FeedId>) {
    let mut bodies = Vec::with_capacity(runs.iter().map(|run| run.count).sum());
    let mut short = Vec::new();
    for run in runs {
        let before = bodies.len();
        match store.read_feed(&run.feed, run.from, run.count) {
            Ok(records) => bodies.extend(records.into_iter().map(|record| Body::Json(record.value))),
            Err(error) => tracing::error!(feed = %run.feed, from = run.from, %error, "messages can't be read"),
        }
        if bodies.len() - before < run.count {
            tracing::warn!(feed = %run.feed, from = run.from, "messages that should be in the log aren't");
            short.push(run.feed);
        }
    }
    (bodies, short)
}

/// What a batch's messages say they are, and the store's verdict on each.
type Settled = (Vec<(FeedId, u64)>, Vec<Ingested>);

/// Messages that go to the store together.
#[derive(Default)]
struct Gathered {
    /// What they say they are.
    sent: Vec<(FeedId, u64)>,
    messages: Vec<Bytes>,
    bytes: usize,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

struct Batch {
    sent: Vec<(FeedId, u64)>,
    storing: Pin<Box<dyn Future<Output = Vec<Ingested>> + Send>>,
    done: Option<Vec<Ingested>>,
}

/// Batches on their way to the store, in order.
#[derive(Default)]
struct UnderWay(VecDeque<Batch>);

impl UnderWay {
    fn push(&mut self, store: &Store, gathered: Gathered) {
        let (store, messages) = (store.clone(), gathered.messages);
        let storing = Box::pin(async move { store.ingest(messages).await });
        self.0.push_back(Batch { sent: gathered.sent, storing, done: None });
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// The oldest batch, once it is done; pending if there is none. Can be cancelled.
    async fn next(&mut self) -> Settled {
        poll_fn(|context| self.poll(context)).await
    }

    /// Older batches are polled first: the store takes them in the order in which they are.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Settled> {
        for batch in &mut self.0 {
            if batch.done.is_none()
                && let Poll::Ready(done) = batch.storing.as_mut().poll(context)
            {
                batch.done = Some(done);
            }
        }
        match self.0.pop_front() {
            Some(Batch { sent, done: Some(done), .. }) => Poll::Ready((sent, done)),
            Some(batch) => {
                self.0.push_front(batch);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}
