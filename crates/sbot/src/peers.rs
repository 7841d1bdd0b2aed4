//! The peer manager at work: its reducer decides ([`sbot_peer_manager`]), this makes it so.
//!
//! Everything that happens to a peer becomes an action; [`PeerRuntime::apply`] hands it to the reducer and carries out the
//! effects: dials, hang-ups, timers, saving. One lock, never held across an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::FeedId;
use sbot_multiserver::{Address, Connection, Dialer};
use sbot_peer_manager::{
    Action, AttemptId, Change, Direction, Effect, LinkId, Millis, Refusal, Saved, Settings, Source, State, Status,
};
use tokio::sync::{Notify, broadcast, oneshot, watch};
use tokio::task::AbortHandle;

use crate::api::{self, Durations, Failure, PeerChange, PeerChangeKind, PeerState, Pending};
use crate::publish::Clock;
use crate::state::State as Saves;

/// Changes that a slow listener may be behind.
const BACKLOG: usize = 1024;

/// Under this name the peers are saved.
const SAVED: &str = "peers";

/// Saving waits this long for more to save.
const SAVE_PAUSE: Duration = Duration::from_millis(500);

/// Most clients that wait for dials to be done.
const MOST_WAITING: usize = 1024;

/// What becomes of a connection once it is up.
pub(crate) trait Serve: Send + Sync {
    /// Speaks with the peer until the connection is done, and says why it is. The handle closes it.
    fn serve(&self, connection: Connection, opened: oneshot::Sender<sbot_rpc::Peer>) -> api::Pending<'static, String>;
}

/// Peers, their routes and their connections.
pub(crate) struct PeerRuntime {
    own: FeedId,
    state: Mutex<State>,
    clock: Clock,
    dialer: Dialer,
    saves: Arc<Saves>,
    server: OnceLock<Arc<dyn Serve>>,
    me: Weak<PeerRuntime>,
    links: Mutex<HashMap<LinkId, sbot_rpc::Peer>>,
    next_link: AtomicU64,
    dials: Mutex<HashMap<AttemptId, AbortHandle>>,
    waiting: Mutex<Vec<Waiting>>,
    changes: broadcast::Sender<PeerChange>,
    wake: watch::Sender<Option<Millis>>,
    unsaved: Notify,
}

/// A client that waits for a peer to be connected, or not to be.
struct Waiting {
    peer: FeedId,
    connected: bool,
    done: oneshot::Sender<Result<(), String>>,
}

impl PeerRuntime {
    /// Knows the peers that were saved. `seed` is any number.
    pub(crate) fn new(own: FeedId, dialer: Dialer, saves: Arc<Saves>, clock: Clock, seed: u64) -> Arc<PeerRuntime> {
        let saved = match saves.value(SAVED) {
            Ok(saved) => saved.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the known peers can't be read");
                Vec::new()
            }
        };
        let saved: Saved = if saved.is_empty() {
            Saved::default()
        } else {
            serde_json::from_slice(&saved).unwrap_or_else(|error| {
                tracing::warn!(%error, "the known peers can't be understood and are forgotten");
                Saved::default()
            })
        };
        let now = clock() as Millis;
        Arc::new_cyclic(|me| PeerRuntime {
            own,
            state: Mutex::new(State::restore(own, Settings::default(), seed, now, saved)),
            clock,
            dialer,
            saves,
            server: OnceLock::new(),
            me: me.clone(),
            links: Mutex::default(),
            next_link: AtomicU64::new(1),
            dials: Mutex::default(),
            waiting: Mutex::default(),
            changes: broadcast::Sender::new(BACKLOG),
            wake: watch::Sender::new(None),
            unsaved: Notify::new(),
        })
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
        let mut state = self.state.lock();
        let effects = state.apply(action, (self.clock)() as Millis);
        let told: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Changed { peer, change } => Some((*change, *peer, shown(&state, peer))),
                _ => None,
            })
            .collect();
        drop(state);
        for (change, key, peer) in told {
            self.tell(change, key, peer);
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn tell(&self, change: Change, key: FeedId, peer: Option<api::Peer>) {
        let kind = match change {
            Change::Added => PeerChangeKind::Discover,
            Change::Removed => PeerChangeKind::Remove,
            Change::Connected => PeerChangeKind::Connect,
            Change::ConnectFailed => PeerChangeKind::ConnectFailure,
            Change::Disconnected => PeerChangeKind::Disconnect,
            Change::Connecting | Change::Disconnecting => return,
        };
        match change {
            Change::Connected => self.settle(&key, true, Ok(())),
            Change::ConnectFailed => self.settle(&key, true, Err(self.last_error(&key))),
            Change::Disconnected => self.settle(&key, false, Ok(())),
            Change::Removed => {
                self.settle(&key, true, Err("the peer was removed".into()));
                self.settle(&key, false, Ok(()));
            }
            _ => {}
        }
        if let Some(peer) = peer {
            // Nobody may be listening.
            let _ = self.changes.send(PeerChange { kind, peer });
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
                let open = self.links.lock().get(&link).cloned();
                if let Some(open) = open {
                    open.close(&why.to_string());
                }
            }
            Effect::Persist => self.unsaved.notify_one(),
            Effect::WakeMeAt(at) => {
                self.wake.send_replace(Some(at));
            }
            Effect::Refused { peer, why } => {
                self.settle(&peer, true, Err(why.to_string()));
                if why == Refusal::Banned {
                    tracing::info!(%peer, "not dialed: {why}");
                }
            }
            Effect::ConnectToHub { hub } => {
                let error = "this program can't use signalling hubs yet".to_owned();
                let Some(me) = self.me.upgrade() else { return };
                // Not from within the action that wanted it.
                tokio::spawn(async move { me.apply(Action::HubConnectionFailed { hub, error }) });
            }
            Effect::HubRefused { hub, why } => tracing::warn!(hub, "not used: {why}"),
            // Told already; and hubs that were never connected need no goodbye.
            Effect::Changed { .. }
            | Effect::HubChanged { .. }
            | Effect::AnnounceToHub { .. }
            | Effect::LeaveHub { .. } => {}
        }
    }

    fn dial(&self, peer: FeedId, route: &str, attempt: AttemptId, timeout: Millis) {
        let Some(me) = self.me.upgrade() else { return };
        let address = route.parse::<Address>();
        let task = tokio::spawn(async move {
            let dialed = async {
                let address = address.map_err(|error| error.to_string())?;
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
    ///
    /// `hops` is its distance from us in the social graph, `None` for strangers.
    pub(crate) fn accepted(&self, connection: Connection, hops: Option<u32>) {
        let (peer, address) = (connection.remote, connection.address.clone());
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
                me.links.lock().insert(link, open);
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

    /// Wakes the reducer when it wants to be, and saves, until the node stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut wake = self.wake.subscribe();
        loop {
            let at = *wake.borrow_and_update();
            let due = async {
                match at {
                    Some(at) => {
                        let wait = at.saturating_sub((self.clock)() as Millis);
                        tokio::time::sleep(Duration::from_millis(wait)).await;
                    }
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
                () = self.unsaved.notified() => {
                    tokio::time::sleep(SAVE_PAUSE).await;
                    self.save().await;
                }
            }
        }
    }

    /// Saves what deserves it.
    pub(crate) async fn save(&self) {
        let saved = serde_json::to_vec(&self.state.lock().saved());
        let saves = Arc::clone(&self.saves);
        let save = move || {
            saved
                .map_err(|error| error.to_string())
                .and_then(|saved| saves.save_value(SAVED, &saved).map_err(|error| error.to_string()))
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(save).await {
            tracing::error!(error, "the known peers could not be saved");
        }
    }

    /// Closes all connections and dials nobody any more. Returns handles to what is closing.
    pub(crate) fn shut_down(&self) -> Vec<sbot_rpc::Peer> {
        self.apply(Action::SchedulerStopped);
        for (_, dial) in self.dials.lock().drain() {
            dial.abort();
        }
        let links: Vec<_> = self.links.lock().values().cloned().collect();
        for link in &links {
            link.close("the server is stopping");
        }
        links
    }

    fn wait(&self, peer: FeedId, connected: bool) -> Result<oneshot::Receiver<Result<(), String>>, Failure> {
        let (done, wait) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.retain(|waiting| !waiting.done.is_closed());
        if waiting.len() >= MOST_WAITING {
            return Err(Failure::new("too many clients wait for peers"));
        }
        waiting.push(Waiting { peer, connected, done });
        Ok(wait)
    }

    fn status(&self, key: &FeedId) -> Option<Status> {
        self.state.lock().peer(key).map(sbot_peer_manager::Peer::status)
    }

    fn find(&self, key: &FeedId) -> Option<api::Peer> {
        shown(&self.state.lock(), key)
    }
}

/// A peer as clients see it.
fn shown(state: &State, key: &FeedId) -> Option<api::Peer> {
    let peer = state.peer(key)?;
    let route = peer.routes.first();
    let address = match (&peer.link, route) {
        (_, Some(route)) => route.address.clone(),
        (Some(link), None) => link.address.clone(),
        (None, None) => String::new(),
    };
    let place = address.parse::<Address>().ok().and_then(|address| address.routes().first()?.host_and_port());
    let lasted = &peer.durations;
    let duration = (lasted.count > 0).then(|| {
        let count = f64::from(lasted.count);
        let mean = lasted.sum / count;
        let variance = (lasted.sum_of_squares / count - mean * mean).max(0.0);
        Durations { mean, stdev: variance.sqrt(), count: lasted.count, sum: lasted.sum, sqsum: lasted.sum_of_squares }
    });
    Some(api::Peer {
        address,
        key: *key,
        host: place.as_ref().map(|(host, _)| host.clone()),
        port: place.map(|(_, port)| port),
        source: route.map(|route| route.source.name().to_owned()),
        announcers: route.map_or(0, |route| route.announced),
        duration,
        state: match peer.status() {
            Status::Disconnected => None,
            Status::Connecting => Some(PeerState::Connecting),
            Status::Connected => Some(PeerState::Connected),
            Status::Disconnecting => Some(PeerState::Disconnecting),
        },
        state_change: Some(peer.since as f64),
        failure: Some(peer.failures),
        client: peer.link.as_ref().map(|link| link.direction == Direction::Outgoing),
        why: state.why(key).to_string(),
    })
}

impl api::Peers for PeerRuntime {
    fn list(&self) -> Vec<api::Peer> {
        let state = self.state.lock();
        let mut peers: Vec<_> = state.peers().map(|(key, peer)| (peer.birth, *key)).collect();
        peers.sort_unstable();
        peers.into_iter().filter_map(|(_, key)| shown(&state, &key)).collect()
    }

    fn add(&self, address: &Address, key: &FeedId, source: Option<&str>) -> Result<Option<api::Peer>, Failure> {
        if *key == self.own {
            return Ok(None);
        }
        let source = source.and_then(Source::from_name).unwrap_or(Source::Manual);
        self.apply(Action::RouteAdded { peer: *key, route: address.to_string(), source });
        match self.find(key) {
            Some(peer) => Ok(Some(peer)),
            None => Err(Failure::new(format!("{address} was not added: too many peers are known"))),
        }
    }

    fn remove(&self, key: &FeedId) -> bool {
        let known = self.find(key).is_some();
        self.apply(Action::PeerForgotten { peer: *key });
        known
    }

    fn connect(&self, key: FeedId) -> Pending<'_, api::Peer> {
        Box::pin(async move {
            let known = || self.find(&key).ok_or_else(|| Failure::new(format!("no known address for peer:{key}")));
            known()?;
            let wait = self.wait(key, true)?;
            self.apply(Action::ConnectRequested { peer: key });
            if self.status(&key) == Some(Status::Connected) {
                return known();
            }
            match wait.await {
                Ok(Ok(())) => known(),
                Ok(Err(error)) => Err(Failure::new(error)),
                Err(_) => Err(Failure::new("the server is stopping")),
            }
        })
    }

    fn disconnect(&self, key: FeedId) -> Pending<'_, bool> {
        Box::pin(async move {
            let wait = self.wait(key, false)?;
            let connected = matches!(self.status(&key), Some(Status::Connected | Status::Disconnecting));
            self.apply(Action::RemotePeerDisconnect { peer: key });
            if connected {
                // An error would say that the server is stopping: then it is disconnected too.
                let _ = wait.await;
            }
            Ok(connected)
        })
    }

    fn reconnect(&self) {
        self.apply(Action::NetworkDidReconnect);
    }

    fn changes(&self) -> broadcast::Receiver<PeerChange> {
        self.changes.subscribe()
    }

    fn schedule(&self, on: bool) {
        self.apply(if on { Action::SchedulerStarted } else { Action::SchedulerStopped });
    }

    fn enable(&self, kind: &str, on: bool) -> Result<(), Failure> {
        match kind {
            // The kinds of ssb-gossip; all that is dialed by itself today is dialed by the scheduler.
            "global" => self.schedule(on),
            "friends" | "local" | "seed" => {}
            _ => return Err(Failure::new(format!("there is no gossip type {kind}"))),
        }
        Ok(())
    }
}
