//! The replicator: what the state machines decide, carried out for a whole node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::FeedId;
use sbot_rpc::Peer;
use sbot_store::Store;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use crate::ebt::{Ebt, Event, Link, OwnFeed, PeerStatus, Progress, Settings};
use crate::wants::Wants;

/// How often stalled feeds are looked for.
const TICK: Duration = Duration::from_secs(1);

/// How often clocks that changed are saved, beside at the end of each connection.
const SAVE: Duration = Duration::from_secs(60);

/// The log is looked at for new messages at most once in so long; the first of them is seen at once.
const BREATH: Duration = Duration::from_millis(25);

/// Looking at it takes at most one part in so many of the time: with very many feeds it is done less often.
const SHARE: u32 = 20;

/// How often listeners hear of progress.
const TELL: Duration = Duration::from_millis(500);

/// Changes and events that a slow listener may be behind.
const BACKLOG: usize = 4096;

/// Keeps what peers' clocks said, for the next connection with each. Both calls may block on the disk.
pub trait PeerClocks: Send + Sync + 'static {
    /// What was saved for a peer; empty if nothing was or it can't be read.
    fn load(&self, peer: &FeedId) -> Vec<(FeedId, i64)>;
    /// Replaces what is saved for a peer. The numbers are opaque. Losing them costs some traffic, and nothing else.
    fn save(&self, peer: &FeedId, clock: &[(FeedId, i64)]);
}

/// How a node replicates.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Speak EBT.
    pub ebt: bool,
    /// Fetch by `createHistoryStream` from peers that don't.
    pub legacy: bool,
    /// Times.
    pub settings: Settings,
}

impl Default for Options {
    fn default() -> Self {
        Options { ebt: true, legacy: true, settings: Settings::default() }
    }
}

/// Replication of one node. Clones are the same one.
#[derive(Clone)]
pub struct Replicator(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) own: FeedId,
    pub(crate) store: Store,
    pub(crate) clocks: Arc<dyn PeerClocks>,
    pub(crate) options: Options,
    started: Instant,
    core: Mutex<Core>,
    pub(crate) wanted_changes: broadcast::Sender<(FeedId, bool)>,
    progress: watch::Sender<Progress>,
    own_feed: watch::Sender<OwnFeed>,
    pub(crate) events: broadcast::Sender<Event>,
}

/// What all connections share, under one lock that is never held for long.
pub(crate) struct Core {
    pub(crate) ebt: Ebt,
    wants: Wants,
    pub(crate) bells: HashMap<Link, Arc<Bell>>,
    pub(crate) sessions: HashMap<FeedId, Arc<Session>>,
}

/// How a connection's tasks are woken.
#[derive(Default)]
pub(crate) struct Bell {
    /// There may be something to send.
    pub(crate) work: Notify,
    /// A newer connection took the place of this one, or the peer is blocked.
    pub(crate) gone: Notify,
}

/// One connected peer.
pub(crate) struct Session {
    pub(crate) peer: Peer,
    /// The peer asked for a feed's history.
    pub(crate) history: Notify,
}

impl Replicator {
    /// Replication over this log; `own` is our key. Nothing but our own feed is wanted yet.
    #[must_use]
    pub fn new(own: FeedId, store: Store, clocks: Arc<dyn PeerClocks>, options: Options) -> Replicator {
        let have = store.tip(&own).map_or(0, |tip| tip.sequence);
        let core = Core {
            ebt: Ebt::new(own, have, options.settings),
            wants: Wants::new(),
            bells: HashMap::new(),
            sessions: HashMap::new(),
        };
        Replicator(Arc::new(Inner {
            own,
            store,
            clocks,
            options,
            started: Instant::now(),
            core: Mutex::new(core),
            wanted_changes: broadcast::Sender::new(BACKLOG),
            progress: watch::Sender::new(Progress::default()),
            own_feed: watch::Sender::new(OwnFeed { have, ahead: None }),
            events: broadcast::Sender::new(BACKLOG),
        }))
    }

    /// Follows the log and the time. To be spawned once, beside the connections; ends when the store closes.
    pub async fn run(self) {
        tokio::select! {
            () = self.follow_log() => {}
            () = self.follow_damage() => {}
            () = self.follow_time() => {}
        }
        self.save().await;
    }

    async fn follow_log(&self) {
        let mut length = self.0.store.watch();
        loop {
            length.mark_unchanged();
            let began = Instant::now();
            self.0.catch_up();
            tokio::time::sleep(BREATH.max(began.elapsed() * SHARE)).await;
            if length.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow_damage(&self) {
        let mut damage = self.0.store.watch_damage();
        while damage.changed().await.is_ok() {
            self.0.with(|core, now| {
                // Looked up under the lock: nothing that is stored meanwhile can be taken for lost.
                for feed in core.ebt.wanted().collect::<Vec<_>>() {
                    let have = self.0.store.tip(&feed).map_or(0, |tip| tip.sequence);
                    core.ebt.lost(&feed, have, now);
                }
            });
            tokio::time::sleep(BREATH).await;
        }
    }

    async fn follow_time(&self) {
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        };
        let (mut tick, mut save, mut tell) = (every(TICK), every(SAVE), every(TELL));
        loop {
            tokio::select! {
                _ = tick.tick() => self.0.with(|core, now| core.ebt.tick(now)),
                _ = save.tick() => self.save().await,
                _ = tell.tick() => {
                    if self.0.progress.receiver_count() > 0 {
                        let progress = self.progress();
                        self.0.progress.send_if_modified(|told| std::mem::replace(told, progress) != progress);
                    }
                }
            }
        }
    }

    /// Replicates with a peer until its connection is closed; answers why it was. `dialed` says that we dialed.
    ///
    /// Who dialed calls `ebt.replicate`, and falls back to `createHistoryStream` if the peer refuses that; who was dialed
    /// waits to be called, and falls back when the peer itself asks for histories (ssb-ebt, ssb-replicate `legacy.js`).
    pub async fn connected(&self, id: FeedId, peer: Peer, dialed: bool) -> String {
        if id == self.0.own {
            return peer.closed().await;
        }
        let session = Arc::new(Session { peer: peer.clone(), history: Notify::new() });
        self.0.core.lock().sessions.insert(id, Arc::clone(&session));
        let why = tokio::select! {
            why = peer.closed() => why,
            () = self.replicate(id, &session, dialed) => peer.closed().await,
        };
        let mut core = self.0.core.lock();
        if core.sessions.get(&id).is_some_and(|current| Arc::ptr_eq(current, &session)) {
            core.sessions.remove(&id);
        }
        why
    }

    async fn replicate(&self, id: FeedId, session: &Session, dialed: bool) {
        if self.0.options.ebt && dialed && self.call(id, &session.peer).await {
            return;
        }
        if !self.0.options.legacy {
            return;
        }
        if self.0.options.ebt && !dialed {
            loop {
                session.history.notified().await;
                // a peer that speaks EBT may ask for histories, too
                tokio::time::sleep(TICK).await;
                if self.0.core.lock().ebt.link_of(&id).is_none() {
                    break;
                }
            }
        }
        self.backfill(id, &session.peer).await;
    }

    /// Which feeds are within reach: those from 0 to `max` hops are wanted, beside those asked for by hand.
    pub fn set_wanted(&self, hops: impl IntoIterator<Item = (FeedId, i32)>, max: i32) {
        let changes = self.0.core.lock().wants.set_hops(hops, max);
        self.change(changes);
    }

    /// A feed is to be replicated, or not, whatever the graph says.
    pub fn request(&self, feed: &FeedId, wanted: bool) {
        if self.0.core.lock().wants.request(*feed, wanted) {
            self.change(vec![(*feed, wanted)]);
        }
    }

    fn change(&self, changes: Vec<(FeedId, bool)>) {
        let changes: Vec<_> = changes
            .into_iter()
            .filter(|(feed, _)| *feed != self.0.own)
            .map(|(feed, wanted)| (feed, wanted, self.0.store.tip(&feed).map_or(0, |tip| tip.sequence)))
            .collect();
        self.0.with(|core, _| {
            for (feed, wanted, have) in &changes {
                if *wanted { core.ebt.want(*feed, *have) } else { core.ebt.unwant(feed) }
            }
        });
        for (feed, wanted, _) in changes {
            // nobody listening is no error
            let _ = self.0.wanted_changes.send((feed, wanted));
        }
    }

    /// `author` blocks `peer`, or does no more: the former's feed is kept from the latter. A peer that we block is
    /// disconnected.
    pub fn block(&self, author: &FeedId, peer: &FeedId, blocking: bool) {
        let session = self.0.with(|core, now| {
            core.ebt.block(*author, *peer, blocking, now);
            (blocking && *author == self.0.own).then(|| core.sessions.get(peer).cloned()).flatten()
        });
        if let Some(session) = session {
            session.peer.dismiss("client is blocked");
        }
    }

    /// A peer asked for a feed's history: it may know no other way to replicate.
    pub fn history_requested(&self, peer: &FeedId) {
        if let Some(session) = self.0.core.lock().sessions.get(peer) {
            session.history.notify_one();
        }
    }

    /// Feeds that are to be replicated, ours among them; in no order.
    #[must_use]
    pub fn wanted(&self) -> Vec<FeedId> {
        self.0.core.lock().ebt.wanted().collect()
    }

    /// Feeds as they become wanted (`true`) or cease to be (`false`).
    #[must_use]
    pub fn wanted_changes(&self) -> broadcast::Receiver<(FeedId, bool)> {
        self.0.wanted_changes.subscribe()
    }

    /// How connected peers are with a feed (`ebt.peerStatus`).
    #[must_use]
    pub fn peer_status(&self, feed: &FeedId) -> Vec<(FeedId, PeerStatus)> {
        self.0.core.lock().ebt.peer_status(feed)
    }

    /// Peers that speak EBT with us now.
    #[must_use]
    pub fn peers(&self) -> Vec<FeedId> {
        self.0.core.lock().ebt.links().map(|(_, peer)| peer).collect()
    }

    /// How far replication is; all zero without connections.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.0.core.lock().ebt.progress()
    }

    /// How far replication is, twice a second at most.
    #[must_use]
    pub fn progress_changes(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// How many wanted feeds some connected peer has more of (`incompleteFeeds`).
    #[must_use]
    pub fn incomplete(&self) -> usize {
        self.0.core.lock().ebt.incomplete()
    }

    /// How many messages of wanted feeds connected peers say they have beyond ours.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.0.core.lock().ebt.behind()
    }

    /// Forks, invalid messages, and news of our own feed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// How our own feed is by what peers say, now and as it changes.
    #[must_use]
    pub fn own_feed(&self) -> watch::Receiver<OwnFeed> {
        self.0.own_feed.subscribe()
    }

    /// Whether anything may be signed now.
    ///
    /// # Errors
    /// While a peer has more of our own feed than we: what we sign then would fork it. The text says so. A peer that
    /// claims to and doesn't send it isn't believed for longer than [`Settings::own_claim`].
    pub fn may_publish(&self) -> Result<(), String> {
        let OwnFeed { have, ahead } = self.0.core.lock().ebt.own_feed();
        // The log may be ahead of what is known here, for a moment.
        let have = have.max(self.0.store.tip(&self.0.own).map_or(0, |tip| tip.sequence));
        match ahead.filter(|ahead| *ahead > have) {
            None => Ok(()),
            Some(ahead) => Err(format!(
                "not published: a peer has our own feed up to message {ahead}, and we up to {have}; these are fetched first, \
                 so that the feed doesn't fork"
            )),
        }
    }

    /// Saves the clocks of connected peers that changed since the last time.
    pub async fn save(&self) {
        let clocks: Vec<_> = {
            let mut core = self.0.core.lock();
            let links: Vec<_> = core.ebt.links().collect();
            links.into_iter().filter_map(|(link, peer)| Some((peer, core.ebt.changed_clock(link)?))).collect()
        };
        let inner = Arc::clone(&self.0);
        let saved = tokio::task::spawn_blocking(move || {
            for (peer, clock) in clocks {
                inner.clocks.save(&peer, &clock);
            }
        });
        if saved.await.is_err() {
            tracing::error!("what peers have could not be saved");
        }
    }
}

impl Inner {
    /// Looks how far the log's feeds are, by whatever way they got there.
    pub(crate) fn catch_up(&self) {
        let clock = self.store.clock();
        self.with(|core, now| {
            for (feed, sequence) in &clock {
                core.ebt.appended(feed, *sequence, now);
            }
            core.ebt.spread(now);
        });
    }

    /// Works on the shared state, then rings for whom there is something to do and tells what happened.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Core, u64) -> T) -> T {
        let now = self.now();
        let mut core = self.core.lock();
        let result = work(&mut core, now);
        for link in core.ebt.take_woken() {
            if let Some(bell) = core.bells.get(&link) {
                bell.work.notify_one();
            }
        }
        let events = core.ebt.take_events();
        let own = core.ebt.own_feed();
        drop(core);
        self.own_feed.send_if_modified(|told| std::mem::replace(told, own) != own);
        for event in events {
            self.tell(event);
        }
        result
    }

    /// Milliseconds since the start: all that the state machines know of time.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn tell(&self, event: Event) {
        match &event {
            Event::Forked { feed, peer, sequence } => {
                tracing::warn!(%feed, %peer, sequence, "a feed has forked: it is stopped with this peer");
            }
            Event::Invalid { feed, peer, sequence, error } => {
                tracing::warn!(%feed, %peer, sequence, error, "invalid message: the feed is stopped with this peer");
            }
            Event::OwnFeedAhead { peer, claimed, have } => {
                tracing::warn!(%peer, claimed, have, "a peer has newer messages of ours: nothing is published before they are here");
            }
            Event::OwnFeedTakenIn { have } => tracing::info!(have, "our own feed is complete"),
            Event::OwnClaimDropped { peer, claimed } => {
                tracing::warn!(%peer, claimed, "a peer claims to have newer messages of ours and doesn't send them");
            }
        }
        // nobody listening is no error
        let _ = self.events.send(event);
    }
}
