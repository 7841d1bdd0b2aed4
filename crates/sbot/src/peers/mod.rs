//! The peer manager at work: its reducer decides ([`sbot_peer_manager`]), this makes it so.
//!
//! Everything that happens to a peer becomes an action; [`PeerRuntime::apply`] hands it to the reducer and carries out the
//! effects: dials, hang-ups, timers, saving. One lock, never held across an await.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::FeedId;
use sbot_multiserver::{Address, Connection, Dialer, HubAddress};
use sbot_peer_manager::{
    Action, AttemptId, Change, Effect, LinkId, Millis, Refusal, Saved, Settings, Source, State, WhyHungUp,
};
use tokio::sync::{Notify, broadcast, oneshot, watch};
use tokio::task::AbortHandle;

use crate::api::{self, PeerChange};
use crate::hubs::Hubs;
use crate::state::State as Saves;
use crate::time::Steady;

mod answers;
mod entries;
mod hubs;
mod import;
mod lookout;
mod notes;
mod recorder;
mod shown;
#[cfg(test)]
mod tests;

use hubs::Configured;
pub(crate) use import::import_files;
use notes::Notes;
use recorder::Recorder;

/// Changes that a slow listener may be behind.
const BACKLOG: usize = 1024;

/// Under this name the peers are saved.
const SAVED: &str = "peers";

/// Under this name what clients say of addresses is saved.
const SAVED_NOTES: &str = "peer notes";

/// Saving waits this long for more to save,
const SAVE_PAUSE: Duration = Duration::from_millis(500);

/// and, if it is nothing that the user said, this long after the last time,
const SAVE_REST: Duration = Duration::from_secs(10);

/// and a second more for so many bytes: ten thousand peers are five megabytes, and some dial fails all the time.
const SAVE_RATE: usize = 10_000;

/// Most clients that wait for dials to be done.
const MOST_WAITING: usize = 1024;

/// What becomes of a connection once it is up.
pub(crate) trait Serve: Send + Sync {
    /// Speaks with the peer until the connection is done, and says why it is. The handle closes it.
    fn serve(&self, connection: Connection, opened: oneshot::Sender<sbot_rpc::Peer>) -> api::Pending<'static, String>;
}

/// How far a peer is from us in the social graph; `None` for strangers and blocked ones.
pub(crate) type Distance = Box<dyn Fn(&FeedId) -> Option<u32> + Send + Sync>;

/// Whether a peer may be dialed, and why not.
pub(crate) type MayDial = Box<dyn Fn(&FeedId) -> Result<(), String> + Send + Sync>;

/// What the peer manager works with.
pub(crate) struct Options {
    /// Who we are.
    pub(crate) own: FeedId,
    /// How peers are dialed.
    pub(crate) dialer: Dialer,
    /// The signalling hubs that we are at.
    pub(crate) hubs: Arc<Hubs>,
    /// Those of the settings.
    pub(crate) hub_addresses: Vec<HubAddress>,
    /// Where the peers are saved.
    pub(crate) saves: Arc<Saves>,
    /// The time.
    pub(crate) time: Steady,
    /// Any number: it makes nodes' pauses differ.
    pub(crate) seed: u64,
    /// Limits and times.
    pub(crate) settings: Settings,
    /// Who is how near.
    pub(crate) distance: Distance,
    /// Whom the policy lets us dial.
    pub(crate) may_dial: MayDial,
    /// Where actions are recorded, if they are.
    pub(crate) record: Option<PathBuf>,
}

/// Peers, their routes and their connections.
pub(crate) struct PeerRuntime {
    own: FeedId,
    state: Mutex<State>,
    time: Steady,
    dialer: Dialer,
    hubs: Arc<Hubs>,
    configured: Mutex<Configured>,
    saves: Arc<Saves>,
    distance: Distance,
    may_dial: MayDial,
    recorder: Option<Recorder>,
    server: OnceLock<Arc<dyn Serve>>,
    me: Weak<PeerRuntime>,
    links: Mutex<HashMap<LinkId, Open>>,
    next_link: AtomicU64,
    dials: Mutex<HashMap<AttemptId, AbortHandle>>,
    waiting: Mutex<Vec<Waiting>>,
    changes: broadcast::Sender<PeerChange>,
    /// What clients say of addresses. Locked after `state`, where both are.
    notes: Mutex<Notes>,
    /// Counts what may have changed the list of staged peers.
    restaged: watch::Sender<u64>,
    /// Whether peers on the local network are sought.
    local: watch::Sender<bool>,
    wake: watch::Sender<Option<Millis>>,
    /// There is something to save.
    unsaved: Notify,
    /// There is something to save that the user said.
    said: Notify,
}

/// A link that is up.
struct Open {
    id: FeedId,
    peer: sbot_rpc::Peer,
    /// Bytes that had come and gone when it was looked at last, and since when none have.
    moved: (u64, Millis),
}

/// A client that waits for a peer to be connected, or not to be.
struct Waiting {
    peer: FeedId,
    connected: bool,
    done: oneshot::Sender<Result<(), String>>,
}

impl PeerRuntime {
    /// Knows the peers that were saved.
    ///
    /// # Errors
    /// If the recording can't be written.
    pub(crate) fn new(options: Options) -> std::io::Result<Arc<PeerRuntime>> {
        let Options { own, dialer, hubs, hub_addresses, saves, time, seed, settings, distance, may_dial, record } =
            options;
        let state = State::restore(own, settings, seed, time.now(), read_saved(&saves));
        let notes = answers::saved_notes(&saves, &state);
        let configured = Configured::new(&hub_addresses, saves.value(hubs::SAVED).ok().flatten().as_deref());
        let recorder = record.map(|path| Recorder::create(path, &state)).transpose()?;
        Ok(Arc::new_cyclic(|me| PeerRuntime {
            own,
            state: Mutex::new(state),
            time,
            dialer,
            hubs,
            configured: Mutex::new(configured),
            saves,
            distance,
            may_dial,
            recorder,
            server: OnceLock::new(),
            me: me.clone(),
            links: Mutex::default(),
            next_link: AtomicU64::new(1),
            dials: Mutex::default(),
            waiting: Mutex::default(),
            changes: broadcast::Sender::new(BACKLOG),
            notes: Mutex::new(notes),
            restaged: watch::Sender::new(0),
            local: watch::Sender::new(false),
            wake: watch::Sender::new(None),
            unsaved: Notify::new(),
            said: Notify::new(),
        }))
    }

    /// Gives connections to `server` from now on.
    pub(crate) fn serve_with(&self, server: Arc<dyn Serve>) {
        // Called once, when the node is put together.
        let _ = self.server.set(server);
    }

    /// Looks at what is known.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Takes an action and carries out what follows from it.
    pub(crate) fn apply(&self, action: Action) {
        // Told to whoever waits for it.
        let _ = self.apply_together([action]);
    }

    /// As [`PeerRuntime::apply`], for several actions with nothing between them; says why not if the reducer refuses one.
    fn apply_together(&self, actions: impl IntoIterator<Item = Action>) -> Result<(), Refusal> {
        let mut said = false;
        let mut effects = Vec::new();
        let mut state = self.state.lock();
        for action in actions {
            let by_user = is_by_user(&action);
            let before = PeerRuntime::before(&state, &action);
            let now = self.time.now();
            let followed = match &self.recorder {
                None => state.apply(action, now),
                Some(recorder) => {
                    let followed = state.apply(action.clone(), now);
                    recorder.record(now, action, &followed);
                    followed
                }
            };
            self.announce(&state, &followed, &before);
            said |= by_user && followed.contains(&Effect::Persist);
            effects.extend(followed);
        }
        drop(state);
        let mut added = Vec::new();
        for effect in &effects {
            if let Effect::Changed { peer, change } = effect {
                self.tell(*change, peer);
                if *change == Change::Added {
                    added.push(*peer);
                }
            }
        }
        if said {
            self.said.notify_one();
        }
        let refusal = effects.iter().find_map(|effect| match effect {
            Effect::Refused { why, .. } => Some(*why),
            _ => None,
        });
        for effect in effects {
            self.carry_out(effect);
        }
        for peer in added {
            if let Some(hops) = (self.distance)(&peer) {
                self.apply(Action::PeerPrioritised { peer, hops: Some(hops) });
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Answers those who wait for a change.
    fn tell(&self, change: Change, key: &FeedId) {
        match change {
            Change::Connected => self.settle(key, true, Ok(())),
            Change::ConnectFailed => self.settle(key, true, Err(self.last_error(key))),
            Change::Disconnected => {
                self.settle(key, false, Ok(()));
                // Broken off for good, unless it is dialed anew.
                let waits = self.look(|state| state.peer(key).is_some_and(|peer| peer.next_try().is_some()));
                if !waits {
                    self.settle(key, true, Err("the dial was broken off".into()));
                }
            }
            Change::Removed => {
                self.settle(key, true, Err("the peer was removed".into()));
                self.settle(key, false, Ok(()));
            }
            Change::Added | Change::Connecting | Change::Disconnecting => {}
        }
    }

    fn last_error(&self, key: &FeedId) -> String {
        let state = self.state.lock();
        let error = state.peer(key).and_then(|peer| peer.last_error.clone());
        error.unwrap_or_else(|| "the peer could not be reached".into())
    }

    /// Answers those who wait for this.
    fn settle(&self, key: &FeedId, connected: bool, result: Result<(), String>) {
        let mut waiting = self.waiting.lock();
        let mut at = 0;
        while at < waiting.len() {
            if waiting[at].peer == *key && waiting[at].connected == connected {
                let done = waiting.swap_remove(at).done;
                // The client may have gone.
                let _ = done.send(result.clone());
            } else {
                at += 1;
            }
        }
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Dial { peer, route, attempt, timeout } => self.dial(peer, &route, attempt, timeout),
            Effect::CancelDial { attempt, .. } => {
                if let Some(dial) = self.dials.lock().remove(&attempt) {
                    dial.abort();
                }
            }
            Effect::HangUp { peer, link, why } => {
                tracing::debug!(%peer, %why, "hanging up");
                let open = self.links.lock().get(&link).map(|open| open.peer.clone());
                match open {
                    Some(open) if why == WhyHungUp::Banned => open.dismiss(&why.to_string()),
                    Some(open) => open.close(&why.to_string()),
                    None => {}
                }
            }
            Effect::Persist => self.unsaved.notify_one(),
            // Effects of several actions may come out of order: the earliest time counts.
            Effect::WakeMeAt(at) => {
                self.wake.send_if_modified(|wake| {
                    let earlier = wake.is_none_or(|wake| at < wake);
                    if earlier {
                        *wake = Some(at);
                    }
                    earlier
                });
            }
            Effect::Refused { peer, why } => {
                self.settle(&peer, true, Err(why.to_string()));
                if why == Refusal::Banned {
                    tracing::info!(%peer, "not dialed: {why}");
                }
            }
            Effect::ConnectToHub { hub } => {
                if let Some(me) = self.me.upgrade() {
                    self.hubs.connect(hub, me);
                }
            }
            Effect::AnnounceToHub { hub } => self.hubs.announce(&hub),
            Effect::LeaveHub { hub } => self.hubs.leave(&hub),
            Effect::HubChanged { hub, change } => self.log_hub(&hub, change),
            Effect::HubRefused { hub, why } => tracing::warn!(hub, "not used: {why}"),
            // Told already.
            Effect::Changed { .. } => {}
        }
    }

    fn dial(&self, peer: FeedId, route: &str, attempt: AttemptId, timeout: Millis) {
        let Some(me) = self.me.upgrade() else { return };
        let address = route.parse::<Address>();
        let task = tokio::spawn(async move {
            let dialed = async {
                let address = address.map_err(|error| error.to_string())?;
                (me.may_dial)(&peer)?;
                let dial = me.dialer.dial(&address);
                match tokio::time::timeout(Duration::from_millis(timeout), dial).await {
                    Ok(Ok(connection)) => Ok(connection),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("no answer within {timeout} ms")),
                }
            };
            let dialed = dialed.await;
            me.dials.lock().remove(&attempt);
            match dialed {
                Ok(connection) => {
                    me.open(connection, move |link| Action::RemotePeerConnectionSucceeded { peer, attempt, link });
                }
                Err(error) => {
                    tracing::debug!(%peer, error, "dialing failed");
                    me.apply(Action::RemotePeerConnectionFailed { peer, attempt, error });
                }
            }
        });
        if !task.is_finished() {
            self.dials.lock().insert(attempt, task.abort_handle());
        }
    }

    /// A peer dialed us, and its handshake is done.
    pub(crate) fn accepted(&self, connection: Connection) {
        let (peer, address) = (connection.remote, connection.address.clone());
        let hops = (self.distance)(&peer);
        self.open(connection, move |link| Action::RemotePeerClientDidConnect { peer, link, address, hops });
    }

    /// Serves a connection until it is done.
    fn open(&self, connection: Connection, action: impl FnOnce(LinkId) -> Action + Send + 'static) {
        let (Some(me), Some(server)) = (self.me.upgrade(), self.server.get().cloned()) else { return };
        let link = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let (peer, address) = (connection.remote, connection.address.clone());
        let (opened, open) = oneshot::channel();
        let served = server.serve(connection, opened);
        tokio::spawn(async move {
            let serving = tokio::spawn(served);
            if let Ok(open) = open.await {
                let moved = (0, me.time.now());
                me.links.lock().insert(link, Open { id: peer, peer: open, moved });
                me.apply(action(link));
                tracing::info!(%peer, address, "connected");
            }
            let why = match serving.await {
                Ok(Ok(why)) => why,
                Ok(Err(failure)) => failure.to_string(),
                Err(error) => error.to_string(),
            };
            me.links.lock().remove(&link);
            tracing::info!(%peer, why, "disconnected");
            me.apply(Action::RemotePeerDidDisconnect { peer, link, error: None });
        });
    }

    /// Wakes the reducer when it wants to be, until the node stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut wake = self.wake.subscribe();
        loop {
            let at = *wake.borrow_and_update();
            let due = async {
                match at {
                    Some(at) => tokio::time::sleep(Duration::from_millis(at.saturating_sub(self.time.now()))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {
                    self.wake.send_if_modified(|wake| {
                        let same = *wake == at;
                        if same { *wake = None }
                        same
                    });
                    self.apply(Action::PeerConnectionTimerTicked);
                }
                _ = wake.changed() => {}
            }
        }
    }

    /// Saves whenever there is something to save, until the node stops.
    pub(crate) async fn keep_saved(self: Arc<Self>) {
        let mut rest = Duration::ZERO;
        loop {
            tokio::select! {
                () = self.said.notified() => {}
                () = async {
                    tokio::time::sleep(rest).await;
                    self.unsaved.notified().await;
                } => {}
            }
            tokio::time::sleep(SAVE_PAUSE).await;
            let size = self.save().await;
            rest = SAVE_REST + Duration::from_secs((size / SAVE_RATE) as u64);
        }
    }

    /// Saves what deserves it; answers how many bytes that are.
    pub(crate) async fn save(&self) -> usize {
        let saved = self.state.lock().saved();
        let saved = serde_json::to_vec(&saved);
        let notes = self.notes.lock().saved();
        let hubs = serde_json::to_vec(&*self.configured.lock());
        let size = saved.as_ref().map_or(0, Vec::len);
        let saves = Arc::clone(&self.saves);
        let save = move || {
            [(SAVED, saved), (SAVED_NOTES, notes), (hubs::SAVED, hubs)].into_iter().try_for_each(|(name, saved)| {
                let saved = saved.map_err(|error| error.to_string())?;
                saves.save_value(name, &saved).map_err(|error| error.to_string())
            })
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(save).await {
            tracing::error!(error, "the known peers could not be saved");
        }
        size
    }

    /// Ends the recording of actions, if there is one.
    pub(crate) async fn finish_recording(self: Arc<Self>) {
        let finish = move || self.recorder.as_ref().map(Recorder::finish);
        // It fails only if the runtime ends, and everything with it.
        let _ = tokio::task::spawn_blocking(finish).await;
    }

    /// Closes all connections and dials nobody any more. Returns handles to what is closing.
    pub(crate) fn shut_down(&self) -> Vec<sbot_rpc::Peer> {
        self.apply(Action::SchedulerStopped);
        for (_, dial) in self.dials.lock().drain() {
            dial.abort();
        }
        let links: Vec<_> = self.links.lock().values().map(|open| open.peer.clone()).collect();
        for link in &links {
            link.close("the server is stopping");
        }
        links
    }
}

/// Whether an action is a word of the user, which is saved soon.
fn is_by_user(action: &Action) -> bool {
    match action {
        Action::RouteAdded { source, .. } => *source == Source::Manual,
        Action::PeerForgotten { .. }
        | Action::LongTermSet { .. }
        | Action::AutoconnectSet { .. }
        | Action::PeerBanned { .. }
        | Action::ConnectRequested { .. }
        | Action::RemotePeerDisconnect { .. }
        | Action::HubAddressAdded { .. }
        | Action::HubAddressRemoved { .. } => true,
        _ => false,
    }
}

/// The peers of the last run; none if they can't be read.
fn read_saved(saves: &Saves) -> Saved {
    let saved = saves.value(SAVED).unwrap_or_else(|error| {
        tracing::warn!(%error, "the known peers can't be read");
        None
    });
    saved.map_or_else(Saved::default, |saved| {
        serde_json::from_slice(&saved).unwrap_or_else(|error| {
            tracing::warn!(%error, "the known peers can't be understood and are forgotten");
            Saved::default()
        })
    })
}
