//! A peer as clients see it by `gossip.*`, and the names of what happens to it.

use sbot_feed::FeedId;
use sbot_multiserver::Address;
use sbot_peer_manager::{Change, Direction, State, Status};

use super::entries;
use crate::api::{self, Durations, PeerChangeKind, PeerState};

/// What a change of the peer manager's is for clients.
pub(super) fn kind_of(change: Change) -> PeerChangeKind {
    match change {
        Change::Added => PeerChangeKind::Discover,
        Change::Removed => PeerChangeKind::Remove,
        Change::Connecting => PeerChangeKind::Connecting,
        Change::Connected => PeerChangeKind::Connect,
        Change::ConnectFailed => PeerChangeKind::ConnectFailure,
        Change::Disconnecting => PeerChangeKind::Disconnecting,
        Change::Disconnected => PeerChangeKind::Disconnect,
    }
}

/// The figures of the `statistics` package, which ssb-gossip and ssb-conn show; `None` before the first link has ended.
pub(super) fn durations(lasted: &sbot_peer_manager::Durations) -> Option<Durations> {
    (lasted.count > 0).then(|| {
        let count = f64::from(lasted.count);
        let mean = lasted.sum / count;
        let variance = (lasted.sum_of_squares / count - mean * mean).max(0.0);
        Durations { mean, stdev: variance.sqrt(), count: lasted.count, sum: lasted.sum, sqsum: lasted.sum_of_squares }
    })
}

/// A peer as clients see it: at the address that is dialed or was, or else at the one known for longest.
pub(super) fn shown(state: &State, key: &FeedId) -> Option<api::Peer> {
    let peer = state.peer(key)?;
    let dialed = peer.link.as_ref().map(|link| &link.address).or(peer.dialing.first().map(|attempt| &attempt.route));
    let route = peer.routes.iter().find(|route| Some(&route.address) == dialed).or(peer.routes.first());
    let address = route.map(|route| &route.address).or(dialed).cloned().unwrap_or_default();
    let place = address.parse::<Address>().ok().and_then(|address| address.routes().first()?.host_and_port());
    let tried = entries::was_tried(peer);
    Some(api::Peer {
        address,
        key: *key,
        host: place.as_ref().map(|(host, _)| host.clone()),
        port: place.map(|(_, port)| port),
        source: route.map(|route| route.source.name().to_owned()),
        announcers: route.map_or(0, |route| route.announced),
        duration: durations(&peer.durations),
        state: match peer.status() {
            Status::Disconnected => None,
            Status::Connecting => Some(PeerState::Connecting),
            Status::Connected => Some(PeerState::Connected),
            Status::Disconnecting => Some(PeerState::Disconnecting),
        },
        state_change: tried.then_some(peer.since as f64),
        failure: tried.then_some(peer.failures),
        error: peer.last_error.clone(),
        client: peer.link.as_ref().map(|link| link.direction == Direction::Outgoing),
        why: state.why(key).to_string(),
        next_try: peer.next_try(),
        hops: peer.hops,
        priority: peer.priority(state.settings()).name(),
        kind: route.map(|route| route.kind.name()),
    })
}
