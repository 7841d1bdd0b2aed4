//! What clients see of the peers, and what they ask of them: `gossip.*` and `conn.*`.

use sbot_feed::FeedId;
use sbot_multiserver::Address;
use sbot_peer_manager::{Action, Direction, Source, State, Status};
use tokio::sync::{broadcast, oneshot};

use super::{MOST_WAITING, PeerRuntime, Waiting};
use crate::api::{self, Durations, Failure, PeerChange, PeerState, Pending};

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

    pub(super) fn find(&self, key: &FeedId) -> Option<api::Peer> {
        shown(&self.state.lock(), key)
    }
}

/// A peer as clients see it.
pub(super) fn shown(state: &State, key: &FeedId) -> Option<api::Peer> {
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
