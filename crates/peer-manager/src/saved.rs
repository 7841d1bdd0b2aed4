//! What is kept over a restart.

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};

use crate::hub::Hub;
use crate::peer::{Durations, Peer};
use crate::route::{KnownRoute, MAX_ROUTE, Source};
use crate::settings::Settings;
use crate::state::{Millis, State};

/// What is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The peers worth it.
    pub peers: Vec<SavedPeer>,
    /// The hubs.
    #[serde(default)]
    pub hubs: Vec<SavedHub>,
    /// Peers that were given up, and until when.
    #[serde(default)]
    pub forgotten: Vec<(FeedId, Millis)>,
}

/// A peer as it is kept over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPeer {
    /// Its key.
    pub key: FeedId,
    /// Its routes, but those that are only good for the moment.
    pub routes: Vec<KnownRoute>,
    /// [`Peer::long_term`].
    #[serde(default)]
    pub long_term: bool,
    /// [`Peer::autoconnect`].
    #[serde(default = "yes")]
    pub autoconnect: bool,
    /// [`Peer::wanted`].
    #[serde(default)]
    pub wanted: Option<bool>,
    /// [`Peer::banned`].
    #[serde(default)]
    pub banned: bool,
    /// [`Peer::failures`].
    #[serde(default)]
    pub failures: u32,
    /// [`Peer::last_success`].
    #[serde(default)]
    pub last_success: Option<Millis>,
    /// [`Peer::last_tried`].
    #[serde(default)]
    pub last_tried: Option<Millis>,
    /// [`Peer::known_since`].
    #[serde(default)]
    pub known_since: Option<Millis>,
    /// [`Peer::durations`].
    #[serde(default)]
    pub durations: Durations,
}

/// A hub as it is kept over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedHub {
    /// Its address.
    pub address: String,
    /// [`Hub::last_success`].
    #[serde(default)]
    pub last_success: Option<Millis>,
}

fn yes() -> bool {
    true
}

impl State {
    /// The peers and hubs of an earlier run, as far as there is room. Whoever is to be connected always, and whoever has
    /// been, is due at once; those that failed when they were tried last wait as long as they did then.
    ///
    /// Times after `now` (the clock was wrong then) are taken for `now`.
    pub fn restore(own: FeedId, settings: Settings, seed: u64, now: Millis, saved: Saved) -> Self {
        let mut state = State::new(own, settings, seed);
        state.now = now;
        for saved in saved.peers {
            if saved.key == own || state.peers.len() >= state.settings.most_peers {
                continue;
            }
            let peer = restored(&state.settings, state.next_birth, now, &saved);
            state.next_birth += 1;
            let waits = match peer.last_tried {
                Some(tried) if peer.failures > 0 && peer.last_success.is_none() => {
                    tried.saturating_add(state.pause_unproven(peer.failures))
                }
                _ => now,
            };
            state.peers.insert(saved.key, peer);
            state.plan(saved.key, waits.max(now));
        }
        for hub in saved.hubs.into_iter().filter(|hub| hub.address.len() <= MAX_ROUTE).take(state.settings.most_hubs) {
            let known = Hub {
                since: now,
                next_try: Some(now),
                last_success: hub.last_success.map(|when| when.min(now)),
                ..Hub::default()
            };
            state.hubs.insert(hub.address, known);
        }
        let forgotten = saved.forgotten.into_iter().filter(|(_, until)| *until > now);
        let until = now.saturating_add(state.settings.forget_for);
        state.forgotten =
            forgotten.take(state.settings.most_forgotten).map(|(key, when)| (key, when.min(until))).collect();
        state
    }

    /// What is to be kept over a restart.
    pub fn saved(&self) -> Saved {
        let saved = |(key, peer): (&FeedId, &Peer)| {
            let mut routes = peer.routes.clone();
            routes.retain_mut(|route| route.keep_sources(Source::is_saved));
            let worth = !routes.is_empty() || peer.long_term || peer.banned;
            worth.then_some(SavedPeer {
                key: *key,
                routes,
                long_term: peer.long_term,
                autoconnect: peer.autoconnect,
                wanted: peer.wanted,
                banned: peer.banned,
                failures: peer.failures,
                last_success: peer.last_success,
                last_tried: peer.last_tried,
                known_since: Some(peer.known_since),
                durations: peer.durations,
            })
        };
        let hubs = self.hubs.iter();
        Saved {
            peers: self.peers_in_order().into_iter().filter_map(saved).collect(),
            hubs: hubs
                .map(|(address, hub)| SavedHub { address: address.clone(), last_success: hub.last_success })
                .collect(),
            forgotten: self.forgotten.iter().map(|(key, until)| (*key, *until)).collect(),
        }
    }
}

fn restored(settings: &Settings, birth: u64, now: Millis, saved: &SavedPeer) -> Peer {
    let past = |when: Option<Millis>| when.map(|when| when.min(now));
    let mut peer = Peer::new(birth, now);
    peer.routes = saved.routes.clone();
    peer.routes.retain(|route| route.address.len() <= MAX_ROUTE);
    peer.routes.truncate(settings.most_routes);
    for route in &mut peer.routes {
        route.tried = false;
        route.last_success = past(route.last_success);
        route.settle_kind();
    }
    peer.long_term = saved.long_term;
    peer.autoconnect = saved.autoconnect;
    peer.wanted = saved.wanted;
    peer.banned = saved.banned;
    peer.failures = saved.failures;
    peer.last_success = past(saved.last_success);
    peer.last_tried = past(saved.last_tried);
    peer.known_since = past(saved.known_since).unwrap_or(now);
    peer.durations = saved.durations;
    peer
}
