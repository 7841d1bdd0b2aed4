//! What clients ask of the peers, and are told of them: `gossip.*` and `conn.*`.

use sbot_feed::FeedId;
use sbot_multiserver::Address;
use sbot_peer_manager::{Action, Change, Effect, Refusal, Source, State, Status};
use serde_json::{Map, Value};
use tokio::sync::{broadcast, oneshot, watch};

use super::notes::{Data, Notes};
use super::shown::{kind_of, shown};
use super::{MOST_WAITING, PeerRuntime, SAVED_NOTES, Waiting, entries};
use crate::api::{self, Entry, Failure, PeerChange, Pending, Pool};
use crate::state::State as Saves;

/// The sources whose routes are only shown (`conn.stage`, and who was seen); those of hubs come and go with them.
const SHOWN: [Source; 3] = [Source::Staged, Source::Local, Source::Dht];

/// What [`PeerRuntime::announce`] has to know of an action.
pub(super) struct Before {
    /// The peer that it may remove.
    gone: Option<api::Peer>,
    /// Whether it changes the routes of a peer, which has no effect of its own.
    reroutes: bool,
}

/// Why an address was not added; without a refusal, since others of the peer are worth more.
fn not_added(address: &Address, why: Option<Refusal>) -> Failure {
    let why = why.map_or_else(|| "too many addresses of this peer are known".into(), |why| why.to_string());
    Failure::new(format!("{address} was not added: {why}"))
}

impl PeerRuntime {
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

    /// What has to be known of an action before it happens, to tell of it then.
    pub(super) fn before(state: &State, action: &Action) -> Before {
        let gone = match action {
            Action::PeerForgotten { peer } | Action::RouteRemoved { peer, .. } => shown(state, peer),
            _ => None,
        };
        let reroutes = matches!(
            action,
            Action::RouteAdded { .. }
                | Action::RouteRemoved { .. }
                | Action::RemotePeerDidAnnounce { .. }
                | Action::RemotePeerDidLeave { .. }
                | Action::HubDidDisconnect { .. }
        );
        Before { gone, reroutes }
    }

    /// Tells those who follow the peers what has happened. Called with the state locked, so that all hear it in the order
    /// in which it happened.
    pub(super) fn announce(&self, state: &State, effects: &[Effect], before: &Before) {
        let mut news = before.reroutes || effects.iter().any(|effect| matches!(effect, Effect::Persist));
        for effect in effects {
            let Effect::Changed { peer: key, change } = effect else { continue };
            news = true;
            if matches!(change, Change::Disconnected | Change::ConnectFailed) {
                let mut notes = self.notes.lock();
                for route in state.peer(key).into_iter().flat_map(|peer| &peer.routes) {
                    notes.dialed.remove(&route.address);
                    // Whoever was connected no longer waits to be chosen.
                    if *change == Change::Disconnected {
                        notes.staged.remove(&route.address);
                    }
                }
            }
            if self.changes.receiver_count() == 0 {
                continue;
            }
            let peer = shown(state, key).or_else(|| before.gone.clone().filter(|gone| gone.key == *key));
            let entry = state.peer(key).and_then(|peer| entries::hub_entry(key, peer, &self.notes.lock()));
            let peer = peer.unwrap_or_else(|| api::Peer::unknown(*key));
            // Nobody may be listening.
            let _ = self.changes.send(PeerChange { kind: kind_of(*change), peer, entry });
        }
        if news {
            self.restage();
        }
    }

    /// What is staged may have changed.
    fn restage(&self) {
        self.restaged.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Adds a route, and takes note of whether its peer may be dialed without being asked for each time, if that is said.
    ///
    /// # Errors
    /// If the reducer didn't take it.
    fn add_route(
        &self,
        address: &Address,
        key: &FeedId,
        source: Source,
        autoconnect: Option<bool>,
    ) -> Result<(), Failure> {
        if *key == self.own {
            return Err(Failure::new(format!("{address} was not added: it is our own address")));
        }
        let (peer, route) = (*key, address.to_string());
        let add = |source| Action::RouteAdded { peer, route: route.clone(), source };
        let set = |on| Action::AutoconnectSet { peer, on };
        let actions = match autoconnect {
            None => vec![add(source)],
            Some(true) => vec![add(source), set(true)],
            Some(false) if source == Source::Staged || self.look(|state| state.peer(key).is_some()) => {
                vec![set(false), add(source), set(false)]
            }
            // Added at once it would be dialed at once: strangers that are only shown aren't.
            Some(false) => {
                let shown = Action::RouteRemoved { peer, route: route.clone(), source: Some(Source::Staged) };
                vec![add(Source::Staged), set(false), add(source), shown]
            }
        };
        self.apply_together(actions).map_err(|why| not_added(address, Some(why)))?;
        if self.has_route(key, &route) { Ok(()) } else { Err(not_added(address, None)) }
    }

    fn known(&self, key: &FeedId) -> Result<api::Peer, Failure> {
        let peer = shown(&self.state.lock(), key);
        peer.ok_or_else(|| Failure::new(format!("no known address for peer:{key}")))
    }

    /// Waits until a peer that was asked for is connected.
    async fn connected(&self, key: FeedId, wait: oneshot::Receiver<Result<(), String>>) -> Result<api::Peer, Failure> {
        if self.status(&key) == Some(Status::Connected) {
            return self.known(&key);
        }
        match wait.await {
            Ok(Ok(())) => self.known(&key),
            Ok(Err(error)) => Err(Failure::new(error)),
            Err(_) => Err(Failure::new("the server is stopping")),
        }
    }

    fn has_route(&self, key: &FeedId, address: &str) -> bool {
        self.look(|state| state.peer(key).is_some_and(|peer| peer.routes.iter().any(|route| route.address == address)))
    }

    /// Takes back that an address was staged, unless a client still wants it shown.
    fn drop_staged(&self, key: FeedId, route: String) {
        if self.notes.lock().staged.get(&route).is_none() {
            self.apply(Action::RouteRemoved { peer: key, route, source: Some(Source::Staged) });
        }
    }

    /// Makes room for notes, if there is none: those of addresses that nobody knows any more go.
    fn forget_old_notes(&self) {
        let state = self.state.lock();
        let mut notes = self.notes.lock();
        if notes.are_full() {
            notes.tidy(&state);
        }
    }

    /// Seeks peers on the local network from now on, or no longer; those that were seen there are then forgotten.
    pub(crate) fn seek_local(&self, on: bool) {
        self.local.send_replace(on);
    }

    /// Whether peers on the local network are sought.
    pub(crate) fn sought_locally(&self) -> watch::Receiver<bool> {
        self.local.subscribe()
    }

    fn now(&self) -> u64 {
        self.time.now()
    }
}

/// What clients have said of addresses in earlier runs, as far as these are still known.
pub(super) fn saved_notes(saves: &Saves, state: &State) -> Notes {
    let saved = saves.value(SAVED_NOTES).map_err(|error| error.to_string());
    let notes = saved.and_then(|saved| {
        let saved = saved.filter(|saved| !saved.is_empty());
        saved.map_or(Ok(Notes::default()), |saved| Notes::restore(&saved).map_err(|error| error.to_string()))
    });
    let mut notes = notes.unwrap_or_else(|error| {
        tracing::warn!(error, "what was said of addresses can't be read and is forgotten");
        Notes::default()
    });
    notes.tidy(state);
    notes
}

/// What a client says of whether an address may be dialed without being asked for each time.
fn autoconnect(data: &Data) -> Option<bool> {
    data.get("autoconnect").and_then(Value::as_bool)
}

impl api::Peers for PeerRuntime {
    fn list(&self) -> Vec<api::Peer> {
        let state = self.state.lock();
        state.peers_in_order().into_iter().filter_map(|(key, _)| shown(&state, key)).collect()
    }

    fn find(&self, key: &FeedId) -> Option<api::Peer> {
        shown(&self.state.lock(), key)
    }

    fn add(&self, address: &Address, key: &FeedId, source: Option<&str>) -> Result<Option<api::Peer>, Failure> {
        if *key == self.own {
            return Ok(None);
        }
        self.add_route(address, key, source.and_then(Source::from_name).unwrap_or(Source::Manual), None)?;
        Ok(self.find(key))
    }

    fn remove(&self, key: &FeedId) -> bool {
        let known = self.find(key).is_some();
        self.apply(Action::PeerForgotten { peer: *key });
        known
    }

    fn connect(&self, key: FeedId) -> Pending<'_, api::Peer> {
        Box::pin(async move {
            self.known(&key)?;
            let wait = self.wait(key, true)?;
            self.apply(Action::ConnectRequested { peer: key });
            self.connected(key, wait).await
        })
    }

    fn connect_at<'a>(&'a self, address: &'a Address, key: FeedId) -> Pending<'a, api::Peer> {
        Box::pin(async move {
            let route = address.to_string();
            let wait = self.wait(key, true)?;
            // Together: known a moment before it is asked for, it would be dialed for itself, and once more if that fails.
            let add = Action::RouteAdded { peer: key, route: route.clone(), source: Source::Manual };
            let applied = self.apply_together([add, Action::ConnectRequested { peer: key }]);
            if !self.has_route(&key, &route) {
                return Err(not_added(address, applied.err()));
            }
            self.connected(key, wait).await
        })
    }

    fn disconnect(&self, key: FeedId) -> Pending<'_, bool> {
        Box::pin(async move {
            let wait = self.wait(key, false)?;
            let connected = self.status(&key).is_some_and(|status| status != Status::Disconnected);
            self.apply(Action::RemotePeerDisconnect { peer: key });
            if connected {
                // An error would say that the server is stopping: then it is disconnected too.
                let _ = wait.await;
            }
            // What was only dialed (`conn.connect`) is neither remembered nor shown any more.
            let is_staged = |state: &State| -> Vec<String> {
                let routes = state.peer(&key).map(|peer| peer.routes.as_slice()).unwrap_or_default();
                let staged = routes.iter().filter(|route| route.is_from(Source::Staged));
                staged.map(|route| route.address.clone()).collect()
            };
            for route in self.look(is_staged) {
                self.drop_staged(key, route);
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
        self.restage();
    }

    fn enable(&self, kind: &str, on: bool) -> Result<(), Failure> {
        // The kinds of ssb-gossip's scheduler.
        match kind {
            "global" => self.schedule(on),
            "local" => self.seek_local(on),
            "friends" | "seed" => {
                let switch = "conn.start and conn.stop switch all dialing";
                return Err(Failure::new(format!("gossip type {kind} can't be switched here: {switch}")));
            }
            _ => return Err(Failure::new(format!("there is no gossip type {kind}"))),
        }
        Ok(())
    }

    fn entries(&self, pool: Pool) -> Vec<Entry> {
        let state = self.state.lock();
        let notes = self.notes.lock();
        match pool {
            Pool::Db => entries::db(&state, &notes),
            Pool::Hub => entries::hub(&state, &notes),
            Pool::Staging => entries::staging(&state, &notes),
        }
    }

    fn remember(&self, address: &Address, key: &FeedId, data: Map<String, Value>) -> Result<(), Failure> {
        // What is remembered is remembered by the user, but for what is told of where it comes from and can be saved.
        let said = data.get("source").or_else(|| data.get("type")).and_then(Value::as_str);
        let source = said.and_then(Source::from_name).filter(|source| source.is_saved()).unwrap_or(Source::Manual);
        let text = address.to_string();
        let autoconnect = autoconnect(&data);
        let new = !data.is_empty() && {
            self.forget_old_notes();
            let added = self.notes.lock().remembered.add(&text, data, self.now());
            added.map_err(|why| Failure::new(why.to_string()))?
        };
        if let Err(failure) = self.add_route(address, key, source, autoconnect) {
            if new {
                self.notes.lock().remembered.remove(&text);
            }
            return Err(failure);
        }
        self.said.notify_one();
        self.restage();
        Ok(())
    }

    fn forget(&self, address: &Address, key: &FeedId) {
        let route = address.to_string();
        self.notes.lock().remembered.remove(&route);
        let is_here = |state: &State| -> Vec<Source> {
            let routes = state.peer(key).map(|peer| peer.routes.as_slice()).unwrap_or_default();
            let known = routes.iter().find(|known| known.address == route);
            known.map(|known| known.sources().filter(|source| source.is_saved()).collect()).unwrap_or_default()
        };
        for source in self.look(is_here) {
            self.apply(Action::RouteRemoved { peer: *key, route: route.clone(), source: Some(source) });
        }
        self.said.notify_one();
    }

    fn stage(&self, address: &Address, key: &FeedId, data: Map<String, Value>) -> Result<bool, Failure> {
        let open =
            |state: &State| state.peer(key).is_none_or(|peer| peer.status() == Status::Disconnected && !peer.banned);
        if *key == self.own || !self.look(open) {
            return Ok(false);
        }
        self.forget_old_notes();
        let text = address.to_string();
        let shown = self.entries(Pool::Staging).iter().any(|(staged, _)| *staged == text);
        // What is remembered keeps what was said of it then.
        let is_saved = |state: &State| state.peer(key).is_some_and(|peer| peer.routes.iter().any(entries::is_saved));
        let autoconnect = autoconnect(&data).filter(|_| !self.look(is_saved));
        let added = self.notes.lock().staged.add(&text, data, self.now());
        let new = added.map_err(|why| Failure::new(why.to_string()))?;
        if let Err(failure) = self.add_route(address, key, Source::Staged, autoconnect) {
            if new {
                self.notes.lock().staged.remove(&text);
            }
            return Err(failure);
        }
        self.restage();
        Ok(!shown)
    }

    fn unstage(&self, address: &Address, key: &FeedId) -> bool {
        let route = address.to_string();
        let shown = self.entries(Pool::Staging).iter().any(|(staged, _)| *staged == route);
        self.notes.lock().staged.remove(&route);
        for source in SHOWN {
            self.apply(Action::RouteRemoved { peer: *key, route: route.clone(), source: Some(source) });
        }
        self.restage();
        shown
    }

    fn dial<'a>(&'a self, address: &'a Address, key: FeedId, data: Map<String, Value>) -> Pending<'a, api::Peer> {
        Box::pin(async move {
            let route = address.to_string();
            if !self.has_route(&key, &route) {
                self.add_route(address, &key, Source::Staged, None)?;
            }
            if !data.is_empty() && self.status(&key) == Some(Status::Disconnected) {
                self.forget_old_notes();
                let added = self.notes.lock().dialed.add(&route, data, self.now());
                added.map_err(|why| Failure::new(why.to_string()))?;
            }
            let connected = self.connect(key).await;
            if connected.is_err() {
                self.drop_staged(key, route);
            }
            connected
        })
    }

    fn restaged(&self) -> watch::Receiver<u64> {
        self.restaged.subscribe()
    }
}
