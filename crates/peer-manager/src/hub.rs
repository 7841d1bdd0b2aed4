//! Signalling hubs: servers where peers meet that can't be dialed. Which are known, which are connected, and who
//! announces itself there.

use std::collections::BTreeMap;

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};

use crate::action::{Effect, HubChange, Refusal};
use crate::peer::Status;
use crate::route::{MAX_ROUTE, Source};
use crate::state::{Effects, Millis, State, cut};

/// Where a connection with a hub stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HubConnection {
    /// There is none.
    #[default]
    Disconnected,
    /// It is being made.
    Connecting,
    /// It is up.
    Connected,
}

/// A signalling hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hub {
    /// Where the connection with it stands.
    pub connection: HubConnection,
    /// Since when, in milliseconds.
    pub since: Millis,
    /// How often it was tried, in all.
    pub attempts: u32,
    /// How often in a row it has failed.
    pub failures: u32,
    /// When it was connected last.
    pub last_success: Option<Millis>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it is tried next, while it isn't connected.
    pub next_try: Option<Millis>,
    /// Who announces itself there, and under which route; at most [`Settings::most_hub_peers`](crate::Settings).
    pub peers: BTreeMap<FeedId, String>,
}

impl State {
    /// The hubs, by address.
    pub fn hubs(&self) -> impl ExactSizeIterator<Item = (&str, &Hub)> {
        self.hubs.iter().map(|(address, hub)| (address.as_str(), hub))
    }

    /// A hub.
    pub fn hub(&self, address: &str) -> Option<&Hub> {
        self.hubs.get(address)
    }

    /// What is going on with a peer over a hub: of a peer that is connected on another way, nothing.
    pub fn status_at_hub(&self, hub: &str, peer: &FeedId) -> Option<Status> {
        let route = self.hubs.get(hub)?.peers.get(peer)?;
        let known = self.peers.get(peer)?;
        let over = known.link.as_ref().is_some_and(|link| link.address == *route)
            || known.dialing.iter().any(|attempt| attempt.route == *route);
        Some(if over { known.status() } else { Status::Disconnected })
    }

    pub(crate) fn hub_added(&mut self, address: String, out: &mut Effects) {
        if self.hubs.contains_key(&address) {
            return;
        }
        let refused = |why| Effect::HubRefused { hub: cut(&address), why };
        if address.len() > MAX_ROUTE {
            return out.push(refused(Refusal::RouteTooLong));
        }
        if self.hubs.len() >= self.settings.most_hubs {
            return out.push(refused(Refusal::TableFull));
        }
        let hub = Hub { since: self.now, next_try: Some(self.now), ..Hub::default() };
        out.push(Effect::Persist);
        out.push(Effect::HubChanged { hub: address.clone(), change: HubChange::Added });
        self.hubs.insert(address, hub);
    }

    pub(crate) fn hub_removed(&mut self, address: &str, out: &mut Effects) {
        let Some(hub) = self.hubs.get(address) else { return };
        if hub.connection != HubConnection::Disconnected {
            out.push(Effect::LeaveHub { hub: address.to_owned() });
        }
        self.clear_hub(address, out);
        self.hubs.remove(address);
        out.push(Effect::Persist);
        out.push(Effect::HubChanged { hub: address.to_owned(), change: HubChange::Removed });
    }

    pub(crate) fn hub_succeeded(&mut self, address: &str, out: &mut Effects) {
        let now = self.now;
        let Some(hub) = self.hubs.get_mut(address) else {
            return out.push(Effect::LeaveHub { hub: address.to_owned() });
        };
        (hub.connection, hub.since) = (HubConnection::Connected, now);
        (hub.last_success, hub.next_try) = (Some(now), None);
        out.push(Effect::HubChanged { hub: address.to_owned(), change: HubChange::Connected });
        out.push(Effect::AnnounceToHub { hub: address.to_owned() });
    }

    pub(crate) fn hub_lost(&mut self, address: &str, error: Option<String>, failed: bool, out: &mut Effects) {
        let (now, stable_after) = (self.now, self.settings.stable_after);
        let Some(hub) = self.hubs.get_mut(address) else { return };
        if hub.connection == HubConnection::Disconnected {
            return;
        }
        let lasted = now.saturating_sub(hub.since);
        let stable = hub.connection == HubConnection::Connected && lasted >= stable_after && !failed;
        (hub.connection, hub.since) = (HubConnection::Disconnected, now);
        hub.failures = if stable { 0 } else { hub.failures.saturating_add(1) };
        hub.last_error = error.as_deref().map(cut).or(hub.last_error.take());
        let failures = hub.failures;
        let pause = self.pause_of_hub(failures);
        if let Some(hub) = self.hubs.get_mut(address) {
            hub.next_try = Some(now.saturating_add(pause));
        }
        self.clear_hub(address, out);
        let change = if failed { HubChange::ConnectFailed } else { HubChange::Disconnected };
        out.push(Effect::HubChanged { hub: address.to_owned(), change });
    }

    /// Forgets who announced itself at a hub. Links that were made there live on.
    fn clear_hub(&mut self, address: &str, out: &mut Effects) {
        let Some(hub) = self.hubs.get_mut(address) else { return };
        for (peer, route) in std::mem::take(&mut hub.peers) {
            self.hub_route_removed(peer, &route, out);
        }
    }

    fn hub_route_removed(&mut self, peer: FeedId, route: &str, out: &mut Effects) {
        // It may be announced under the same route at another hub.
        if !self.hubs.values().any(|hub| hub.peers.get(&peer).is_some_and(|other| other == route)) {
            self.route_gone(peer, route, Some(Source::Hub), out);
        }
    }

    pub(crate) fn announced(&mut self, address: &str, peer: FeedId, route: String, out: &mut Effects) {
        let most = self.settings.most_hub_peers;
        let Some(hub) = self.hubs.get_mut(address).filter(|hub| hub.connection == HubConnection::Connected) else {
            return;
        };
        if peer == self.own || route.len() > MAX_ROUTE {
            return;
        }
        if !hub.peers.contains_key(&peer) && hub.peers.len() >= most {
            let why = Refusal::TableFull;
            return out.push(Effect::Refused { peer, why });
        }
        let before = hub.peers.insert(peer, route.clone());
        if let Some(before) = before.filter(|before| *before != route) {
            self.hub_route_removed(peer, &before, out);
        }
        self.route_added(peer, route, Source::Hub, out);
        if !self.peers.contains_key(&peer)
            && let Some(hub) = self.hubs.get_mut(address)
        {
            hub.peers.remove(&peer);
        }
    }

    pub(crate) fn left(&mut self, address: &str, peer: FeedId, out: &mut Effects) {
        let Some(route) = self.hubs.get_mut(address).and_then(|hub| hub.peers.remove(&peer)) else { return };
        self.hub_route_removed(peer, &route, out);
    }

    /// Takes a peer off the hubs if its route there has failed too often.
    pub(crate) fn give_up_at_hubs(&mut self, peer: FeedId, out: &mut Effects) {
        let most = self.settings.hub_peer_failures;
        let Some(known) = self.peers.get(&peer) else { return };
        let given_up = |route: &&crate::KnownRoute| route.is_from(Source::Hub) && route.failures >= most;
        let routes: Vec<String> = known.routes.iter().filter(given_up).map(|route| route.address.clone()).collect();
        for route in routes {
            for hub in self.hubs.values_mut() {
                if hub.peers.get(&peer).is_some_and(|at| *at == route) {
                    hub.peers.remove(&peer);
                }
            }
            self.route_gone(peer, &route, Some(Source::Hub), out);
        }
    }

    /// Connects the hubs whose time has come; the earliest time at which another one's does.
    pub(crate) fn schedule_hubs(&mut self, out: &mut Effects) -> Option<Millis> {
        if !self.running || !self.online {
            return None;
        }
        let now = self.now;
        let mut next = None;
        for (address, hub) in &mut self.hubs {
            match hub.next_try {
                Some(when) if when <= now => {
                    (hub.connection, hub.since, hub.next_try) = (HubConnection::Connecting, now, None);
                    hub.attempts = hub.attempts.saturating_add(1);
                    out.push(Effect::HubChanged { hub: address.clone(), change: HubChange::Connecting });
                    out.push(Effect::ConnectToHub { hub: address.clone() });
                }
                Some(when) => next = Some(next.map_or(when, |next: Millis| next.min(when))),
                None => {}
            }
        }
        next
    }

    /// The network has gone or changed: no hub is connected any more. `back` says that it is there again.
    pub(crate) fn reset_hubs(&mut self, back: bool, out: &mut Effects) {
        let addresses: Vec<String> = self.hubs.keys().cloned().collect();
        for address in addresses {
            let later = self.within(self.settings.spread);
            let Some(hub) = self.hubs.get_mut(&address) else { continue };
            let was = std::mem::take(&mut hub.connection);
            (hub.failures, hub.next_try) = (0, Some(self.now.saturating_add(later)));
            if was != HubConnection::Disconnected {
                hub.since = self.now;
                out.push(Effect::LeaveHub { hub: address.clone() });
                out.push(Effect::HubChanged { hub: address.clone(), change: HubChange::Disconnected });
            }
            if !back || was != HubConnection::Disconnected {
                self.clear_hub(&address, out);
            }
        }
    }
}
