//! Blobs, wired up: the want/has exchange with the blobs on disk, the peers that are connected, and whoever waits.
//!
//! [`Blobs`] holds it all. Every change goes through [`Blobs::with`], which asks the exchange under its lock what follows
//! from it and sees to that: peers are told ([`telling`]), transfers begin and end ([`fetching`]), waiting calls are
//! answered, own wants are saved ([`saving`]). Nothing here knows how a peer is connected.
//!
//! Source: `ssb-blobs/inject.js`.

mod clearing;
mod fetching;
mod gate;
mod keeping;
mod mentions;
mod rules;
mod saving;
mod serving;
mod telling;
mod unboxing;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use sbot_blobs::{Counts, Effect, Exchange, Found, Quotas, Settings, TooMany, is_empty_blob};
use sbot_feed::{BlobId, FeedId};
use sbot_store::{Adding, BlobStore, StoreError};
use tokio::sync::{Notify, Semaphore, broadcast, oneshot, watch};

pub(crate) use clearing::{GRACE, why};
pub use gate::BlobGate;
use gate::ChosenGate;
pub(crate) use keeping::Kept;
pub(crate) use mentions::Wishing;
use rules::BlobRules;
pub(crate) use serving::Fault;
pub(crate) use unboxing::{UnboxError, UnboxKey};

use crate::config;
use crate::gate::Gate;
use crate::publish::Clock;
use crate::state::State as Saves;
use crate::time::millis;

/// News that a slow reader of own wants may be behind.
const BACKLOG: usize = 1024;

/// Blobs that one peer reads at once: each has a piece of a file in memory. Others wait in line.
const MAX_READERS: usize = 8;

/// Blobs that all clients of ours together read at once.
const MAX_LOCAL_READERS: usize = 64;

/// The blobs, what is looked for, and the exchange with peers. Clones of the `Arc` are the same.
pub struct Blobs {
    store: BlobStore,
    exchange: Mutex<Exchange>,
    gate: Arc<ChosenGate>,
    /// Counts what peers want.
    budgets: OnceLock<Arc<Gate>>,
    clock: Clock,
    /// `None` if nothing is remembered over a restart.
    saves: Option<Arc<Saves>>,
    keeping: keeping::Keeping,
    quotas: Quotas,
    /// Of all blobs together.
    bytes: AtomicU64,
    /// Who we are.
    own: FeedId,
    legacy: bool,
    peers: Mutex<HashMap<FeedId, Remote>>,
    waiters: Mutex<HashMap<BlobId, Vec<oneshot::Sender<Found>>>>,
    /// Bytes of transfers that were broken off.
    partials: Mutex<HashMap<BlobId, Adding>>,
    /// Stops a transfer.
    stops: Mutex<HashMap<BlobId, Arc<Notify>>>,
    /// Own wants as they come up, and blobs as they come: an id and a note as peers get it.
    news: broadcast::Sender<(BlobId, i64)>,
    under_way: watch::Sender<usize>,
    unsaved: Notify,
    readers: Arc<Semaphore>,
    /// Where transfers run.
    runtime: tokio::runtime::Handle,
}

/// A connected peer.
#[derive(Clone)]
struct Remote {
    /// Tells this connection from others of the same peer.
    number: u64,
    rpc: Option<sbot_rpc::Peer>,
    wake: Arc<Notify>,
    /// Calls of the peer's for our notes: only the last one is answered.
    calls: Arc<watch::Sender<u64>>,
    readers: Arc<Semaphore>,
}

/// Counts one blob that is being added.
pub(crate) struct UnderWay(Arc<Blobs>);

impl UnderWay {
    pub(crate) fn new(blobs: &Arc<Blobs>) -> Self {
        blobs.under_way.send_modify(|count| *count += 1);
        Self(Arc::clone(blobs))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|count| *count -= 1);
    }
}

impl Blobs {
    /// Serves what `store` holds, and goes on looking for what was looked for before. Blocks; to be called on a thread of
    /// the runtime in which transfers are to run.
    pub(crate) fn open(
        store: BlobStore,
        settings: &config::Blobs,
        saves: Option<Arc<Saves>>,
        clock: Clock,
        own: FeedId,
    ) -> Arc<Self> {
        let chosen = Settings {
            sympathy: settings.sympathy,
            stingy: settings.stingy,
            // as in ssb-blobs, which takes 0 for "as usual"
            pushy: if settings.pushy == 0 { Settings::default().pushy } else { settings.pushy },
            max: settings.max,
        };
        let gate = Arc::new(ChosenGate::default());
        let saved = saves.as_deref().map(saving::load).unwrap_or_default();
        let quotas = Quotas {
            total: settings.quota,
            per_author: settings.author_quota,
            max_age: settings.max_age.map(millis),
            grace: GRACE,
        };
        Arc::new(Self {
            keeping: saves.as_deref().map(keeping::Keeping::load).unwrap_or_default(),
            quotas,
            bytes: AtomicU64::new(0),
            own,
            exchange: Mutex::new(Exchange::new(chosen, Arc::clone(&gate) as Arc<dyn sbot_blobs::Gate>, saved)),
            store,
            gate,
            budgets: OnceLock::new(),
            clock,
            saves,
            legacy: settings.legacy,
            peers: Mutex::default(),
            waiters: Mutex::default(),
            partials: Mutex::default(),
            stops: Mutex::default(),
            news: broadcast::Sender::new(BACKLOG),
            under_way: watch::Sender::new(0),
            unsaved: Notify::new(),
            readers: Arc::new(Semaphore::new(MAX_LOCAL_READERS)),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Serves what `store` holds to the node `own`, as ssb-blobs does by default, and remembers nothing over a restart. To be
    /// called within a runtime.
    #[must_use]
    pub fn new(store: BlobStore, own: FeedId) -> Arc<Self> {
        let settings = config::Config::new(std::path::PathBuf::new()).blobs;
        Self::open(store, &settings, None, crate::publish::system_clock(), own)
    }

    /// The blobs' bytes, to read. What is added or deleted behind our back nobody is told of.
    #[must_use]
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    /// Lets `gate` decide from now on what peers may.
    pub fn decide_by(&self, gate: Arc<dyn BlobGate>) {
        self.gate.choose(gate);
    }

    /// Lets the node's policy decide what peers may, and how much they may want.
    pub(crate) fn obey(&self, gate: &Arc<Gate>) {
        self.decide_by(Arc::new(BlobRules { gate: Arc::clone(gate) }));
        // Called once, when the node is put together.
        let _ = self.budgets.set(Arc::clone(gate));
    }

    /// How much is looked for, pushed and fetched.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.exchange.lock().counts()
    }

    /// What we look for and push, as notes.
    #[must_use]
    pub fn own_notes(&self) -> std::collections::BTreeMap<BlobId, i64> {
        self.exchange.lock().own_notes()
    }

    /// Own wants as they come up and blobs as they come.
    pub(crate) fn news(&self) -> broadcast::Receiver<(BlobId, i64)> {
        self.news.subscribe()
    }

    /// How many blobs are being added.
    pub(crate) fn being_added(&self) -> watch::Receiver<usize> {
        self.under_way.subscribe()
    }

    /// Milliseconds since 1970. A clock before that is taken for it.
    fn now(&self) -> u64 {
        (self.clock)().max(0.0) as u64
    }

    /// Changes the exchange and sees to what follows from it.
    fn with(self: &Arc<Self>, change: impl FnOnce(&mut Exchange, u64) -> Vec<Effect>) {
        let now = self.now();
        let mut exchange = self.exchange.lock();
        // still under the lock: so that a transfer is begun before it is stopped
        for effect in change(&mut exchange, now) {
            self.follow(effect);
        }
    }

    fn follow(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Tell(peer) => {
                if let Some(remote) = self.peers.lock().get(&peer) {
                    remote.wake.notify_one();
                }
            }
            Effect::Fetch { blob, peer, limit, .. } => self.begin_fetch(blob, peer, limit),
            Effect::Stop(blob) => {
                if let Some(stop) = self.stops.lock().get(&blob) {
                    stop.notify_one();
                }
            }
            Effect::Discard(blob) => drop(self.partials.lock().remove(&blob)),
            Effect::Done(blob, found) => {
                for waiter in self.waiters.lock().remove(&blob).unwrap_or_default() {
                    // who has gone needs no answer
                    let _ = waiter.send(found);
                }
            }
            Effect::Pushed(blob) => tracing::debug!(%blob, "enough peers have a pushed blob"),
            Effect::Save => self.unsaved.notify_one(),
        }
    }

    /// The size of a blob, `None` if it isn't here. The empty one always is. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn size_of(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        if is_empty_blob(id) {
            return Ok(Some(0));
        }
        self.store.size(id)
    }

    /// The size of a blob if its file can be seen. Blocks.
    fn seen(&self, id: &BlobId) -> Option<u64> {
        self.size_of(id).ok().flatten()
    }

    /// Looks for a blob; answers with `None` if it is here, else with what comes of it. Blocks.
    ///
    /// # Errors
    /// If too many are looked for.
    pub fn want(self: &Arc<Self>, id: BlobId) -> Result<Option<oneshot::Receiver<Found>>, TooMany> {
        let mut wanted = Ok(None);
        self.with(|exchange, now| {
            if self.seen(&id).is_some() {
                return Vec::new();
            }
            let effects = exchange.want(id, now);
            if effects.is_ok() {
                let (sender, receiver) = oneshot::channel();
                let mut waiters = self.waiters.lock();
                let waiting = waiters.entry(id).or_default();
                waiting.retain(|waiter| !waiter.is_closed());
                waiting.push(sender);
                wanted = Ok(Some(receiver));
                // nobody listening is no error
                let _ = self.news.send((id, -1));
            }
            effects.unwrap_or_else(|error| {
                wanted = Err(error);
                Vec::new()
            })
        });
        wanted
    }

    /// Has peers take a blob, and looks for it if it isn't here. Blocks.
    ///
    /// # Errors
    /// If too many wait for that.
    pub fn push(self: &Arc<Self>, id: BlobId) -> Result<(), TooMany> {
        if is_empty_blob(&id) {
            return Ok(());
        }
        let mut pushed = Ok(());
        self.with(|exchange, now| {
            let mut effects = Vec::new();
            let is_here = self.seen(&id).is_some();
            let wanted = if is_here { Ok(Vec::new()) } else { exchange.want(id, now) };
            let done = wanted.and_then(|wanted| {
                effects.extend(wanted);
                exchange.push(id, now)
            });
            match done {
                Ok(done) => effects.extend(done),
                Err(error) => pushed = Err(error),
            }
            // nobody listening is no error
            let _ = self.news.send((id, -1));
            effects
        });
        pushed
    }

    /// As [`Blobs::want`] for nobody in particular, if the blob has at most `max` bytes. Blocks.
    ///
    /// # Errors
    /// If too many are looked for.
    pub(crate) fn want_quietly(self: &Arc<Self>, id: BlobId, max: Option<u64>) -> Result<(), TooMany> {
        let mut wanted = Ok(());
        self.with(|exchange, now| {
            if self.seen(&id).is_some() {
                return Vec::new();
            }
            exchange.want_at_most(id, max, now).unwrap_or_else(|error| {
                wanted = Err(error);
                Vec::new()
            })
        });
        wanted
    }

    /// A client of ours has stored a blob. `is_new` says that it wasn't here before.
    pub(crate) fn added(self: &Arc<Self>, id: &BlobId, size: u64, is_new: bool) {
        if is_empty_blob(id) {
            return;
        }
        self.keeping.change(*id, |kept| kept.own = true);
        self.unsaved.notify_one();
        self.came(*id, size, is_new);
        self.with(|exchange, now| exchange.added(id, size, now));
    }

    /// A blob has come: so many bytes more are here.
    fn came(&self, id: BlobId, size: u64, is_new: bool) {
        let now = self.now();
        self.keeping.change(id, |kept| kept.used = now);
        if is_new {
            self.grow(size);
        }
        // nobody listening is no error
        let _ = self.news.send((id, i64::try_from(size).unwrap_or(i64::MAX)));
    }

    /// Deletes a blob; false if it wasn't here. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn rm(self: &Arc<Self>, id: &BlobId) -> Result<bool, StoreError> {
        let size = self.store.size(id)?;
        let was_here = self.store.rm(id)?;
        if was_here {
            self.shrink(size.unwrap_or_default());
            self.keeping.forget(id);
        }
        self.with(|exchange, _| exchange.removed(id));
        Ok(was_here)
    }

    /// A blob's file was found damaged, and deleted: peers are asked for it again. Blocks.
    fn lost(self: &Arc<Self>, id: BlobId) {
        tracing::warn!(blob = %id, "a blob's file was damaged: it was deleted, and peers are asked for the blob");
        self.with(|exchange, now| {
            if self.seen(&id).is_some() {
                return Vec::new();
            }
            exchange.want(id, now).unwrap_or_default()
        });
        self.count();
    }
}
