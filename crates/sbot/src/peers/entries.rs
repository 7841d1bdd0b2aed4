//! What `conn.*` shows: the three pools of ssb-conn as pairs of address and data, made of what the peer manager knows.
//!
//! ssb-conn keeps addresses in three pools; here they are views of one table. An address is in the *db* if a source that
//! is saved says so, in the *hub* while its peer is being dialed, is connected, or hangs up, and in *staging* if it is
//! only to be shown: seen on the local network or staged by a client, or not to be dialed without being asked.
//!
//! Source of the fields and their names: ssb-conn-hub 1.2 `_setPeer`, ssb-conn-db 1.0 `set`, ssb-conn-staging 1.0
//! `stage`, ssb-conn 6.0 `interpool-glue.js` and, for which addresses are staged, `conn-scheduler.js`.

use sbot_feed::FeedId;
use sbot_peer_manager::{Kind, KnownRoute, Peer, Source, State, Status};
use serde_json::json;

use super::notes::{Data, Note, Notes};
use super::shown::durations;
use crate::api::Entry;

/// `conn.dbPeers`: the addresses that are saved, in the order in which peers became known.
pub(super) fn db(state: &State, notes: &Notes) -> Vec<Entry> {
    let saved = |(key, peer): (&FeedId, &Peer)| {
        let routes = peer.routes.iter().filter(|route| is_saved(route));
        routes.map(|route| (route.address.clone(), db_data(key, peer, route, notes))).collect::<Vec<_>>()
    };
    state.peers_in_order().into_iter().flat_map(saved).collect()
}

/// `conn.peers`: who is being dialed, is connected, or hangs up.
pub(super) fn hub(state: &State, notes: &Notes) -> Vec<Entry> {
    let mut live: Vec<_> = state.peers().filter(|(_, peer)| peer.status() != Status::Disconnected).collect();
    live.sort_by_key(|(_, peer)| (hub_birth(peer), peer.birth));
    live.into_iter().filter_map(|(key, peer)| hub_entry(key, peer, notes)).collect()
}

/// `conn.stagedPeers`: who can be connected, if the user wants to.
pub(super) fn staging(state: &State, notes: &Notes) -> Vec<Entry> {
    let shown = |(key, peer): (&FeedId, &Peer)| {
        let offered = peer.status() == Status::Disconnected && !peer.banned;
        let staged = |route: &&KnownRoute| {
            // The scheduler of ssb-conn stages them, while it runs.
            let optional = state.is_running() && !peer.autoconnect && is_saved(route);
            offered && (optional || is_staged(route, notes))
        };
        let routes = peer.routes.iter().filter(staged);
        routes.map(|route| (route.address.clone(), staged_data(key, peer, route, notes))).collect::<Vec<_>>()
    };
    state.peers_in_order().into_iter().flat_map(shown).collect()
}

/// What `conn.peers` shows of one peer; `None` if it is disconnected.
pub(super) fn hub_entry(key: &FeedId, peer: &Peer, notes: &Notes) -> Option<Entry> {
    let state = match peer.status() {
        Status::Disconnected => return None,
        Status::Connecting => "connecting",
        Status::Connected => "connected",
        Status::Disconnecting => "disconnecting",
    };
    let address = match &peer.link {
        Some(link) => &link.address,
        None => &peer.dialing.first()?.route,
    };
    let said = |note: Option<&Note>| note.map(|note| note.data.clone()).unwrap_or_default();
    let mut data = said(notes.dialed.get(address));
    if let Some(route) = peer.routes.iter().find(|route| route.address == *address && is_saved(route)) {
        data.extend(db_data(key, peer, route, notes));
    }
    if let Some(note) = notes.staged.get(address) {
        data.extend(note.data.clone());
        data.insert("stagingBirth".into(), json!(note.birth));
        data.insert("stagingUpdated".into(), json!(note.updated));
    }
    data.insert("key".into(), json!(key.to_string()));
    data.insert("state".into(), json!(state));
    data.insert("stateChange".into(), json!(peer.since));
    data.insert("hubBirth".into(), json!(hub_birth(peer)));
    data.insert("hubUpdated".into(), json!(peer.since));
    if peer.link.is_some()
        && !data.contains_key("type")
        && let Some(kind) = inferred_type(address)
    {
        data.insert("inferredType".into(), json!(kind));
    }
    Some((address.clone(), data))
}

/// Whether a route is one of those that are kept over a restart.
pub(super) fn is_saved(route: &KnownRoute) -> bool {
    route.sources().any(Source::is_saved)
}

/// Whether a route is to be shown to the user: somebody was seen there, or a client has staged it.
fn is_staged(route: &KnownRoute, notes: &Notes) -> bool {
    let seen = route.sources().any(|source| matches!(source, Source::Local | Source::Dht | Source::Hub));
    seen || (route.is_from(Source::Staged) && notes.staged.get(&route.address).is_some())
}

fn hub_birth(peer: &Peer) -> u64 {
    let dialing = peer.dialing.first().map(|attempt| attempt.since);
    peer.link.as_ref().map(|link| link.since).or(dialing).unwrap_or(peer.since)
}

fn db_data(key: &FeedId, peer: &Peer, route: &KnownRoute, notes: &Notes) -> Data {
    let note = notes.remembered.get(&route.address);
    let mut data = note.map(|note| note.data.clone()).unwrap_or_default();
    data.insert("birth".into(), json!(note.map_or(peer.known_since, |note| note.birth)));
    data.insert("key".into(), json!(key.to_string()));
    data.entry("source").or_insert_with(|| json!(route.source.name()));
    data.insert("announcers".into(), json!(route.announced));
    if !peer.autoconnect {
        data.insert("autoconnect".into(), json!(false));
    }
    if was_tried(peer) {
        data.insert("stateChange".into(), json!(peer.since));
        data.insert("failure".into(), json!(peer.failures));
    }
    if let Some(lasted) = durations(&peer.durations) {
        data.insert("duration".into(), json!(lasted));
    }
    data
}

fn staged_data(key: &FeedId, peer: &Peer, route: &KnownRoute, notes: &Notes) -> Data {
    let note = notes.staged.get(&route.address);
    let mut data = match note {
        Some(note) => note.data.clone(),
        None if is_saved(route) => db_data(key, peer, route, notes),
        None => Data::new(),
    };
    data.insert("stagingBirth".into(), json!(note.map_or(peer.known_since, |note| note.birth)));
    data.insert("stagingUpdated".into(), json!(note.map_or(peer.known_since, |note| note.updated)));
    data.insert("key".into(), json!(key.to_string()));
    let seen_as = match () {
        () if route.is_from(Source::Local) => Some("lan"),
        () if route.is_from(Source::Dht) => Some("dht"),
        () if route.is_from(Source::Hub) && route.kind == Kind::Room => Some("room-attendant"),
        () => None,
    };
    if let Some(kind) = seen_as {
        data.entry("type").or_insert_with(|| json!(kind));
    }
    data
}

/// Whether there is anything to tell of dials or links.
pub(super) fn was_tried(peer: &Peer) -> bool {
    peer.status() != Status::Disconnected || peer.last_tried.is_some() || peer.last_success.is_some()
}

/// The guess of ssb-conn-hub's `inferPeerType`, by the address alone.
fn inferred_type(address: &str) -> Option<&'static str> {
    let (scheme, _) = address.split_once(':')?;
    match scheme {
        "net" if Kind::of(address) == Kind::Lan => Some("lan"),
        "net" => Some("internet"),
        "tunnel" => Some("tunnel"),
        "dht" => Some("dht"),
        "bt" => Some("bt"),
        _ => None,
    }
}
