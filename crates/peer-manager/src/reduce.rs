//! The reducer: what each action does to what is known of peers. Links are in [`links`](crate::links), the network's ups
//! and downs in [`network`](crate::network), hubs in [`hub`](crate::hub); whom to dial is decided in
//! [`schedule`](crate::schedule).

use sbot_feed::FeedId;

use crate::action::{Action, Change, Effect, Refusal, WhyHungUp};
use crate::peer::{Peer, Transfer};
use crate::route::{KnownRoute, MAX_ROUTE, Source};
use crate::state::{Effects, Millis, State};

/// So many peers are looked at to find the one that makes room when the table is full.
const SAMPLE: usize = 32;

impl State {
    /// Takes note of what happened and says what shall happen.
    ///
    /// A `now` before that of an earlier action is taken for that one's.
    pub fn apply(&mut self, action: Action, now: Millis) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        let out = &mut effects;
        match action {
            Action::RouteAdded { peer, route, source } => self.route_added(peer, route, source, out),
            Action::RouteRemoved { peer, route, source } => self.route_gone(peer, &route, source, out),
            Action::PeerForgotten { peer } => self.forgotten(peer, out),
            Action::LongTermSet { peer, on } => self.long_term_set(peer, on, out),
            Action::AutoconnectSet { peer, on } => self.autoconnect_set(peer, on, out),
            Action::PeerPrioritised { peer, hops } => self.prioritised(peer, hops),
            Action::PeerBanned { peer, on } => self.banned(peer, on, out),
            Action::ConnectRequested { peer } => self.connect_requested(peer, out),
            Action::RemotePeerDisconnect { peer } => self.disconnect_requested(peer, out),
            Action::RemotePeerConnecting { peer } => self.expect(peer),
            Action::RemotePeerConnectionSucceeded { peer, attempt, link } => self.succeeded(peer, attempt, link, out),
            Action::RemotePeerConnectionFailed { peer, attempt, error } => self.failed(peer, attempt, &error, out),
            Action::RemotePeerClientDidConnect { peer, link, address, hops } => {
                self.dialed_us(peer, link, address, hops, out);
            }
            Action::RemotePeerDidDisconnect { peer, link, error } => self.ended(peer, link, error.as_deref(), out),
            Action::DownloadStarted { peer } | Action::DownloadProgressed { peer } => self.transfers(peer, true),
            Action::DownloadFinished { peer } => self.transfers(peer, false),
            Action::InitialSyncStarted => self.syncing = true,
            Action::InitialSyncFinished => self.syncing = false,
            Action::HubAddressAdded { hub } => self.hub_added(hub, out),
            Action::HubAddressRemoved { hub } => self.hub_removed(&hub, out),
            Action::HubConnectionSucceeded { hub } => self.hub_succeeded(&hub, out),
            Action::HubConnectionFailed { hub, error } => self.hub_lost(&hub, Some(error), true, out),
            Action::HubDidDisconnect { hub, error } => self.hub_lost(&hub, error, false, out),
            Action::RemotePeerDidAnnounce { hub, peer, route } => self.announced(&hub, peer, route, out),
            Action::RemotePeerDidLeave { hub, peer } => self.left(&hub, peer, out),
            Action::NetworkDidDisconnect => self.network_gone(out),
            Action::NetworkDidReconnect => self.network_back(WhyHungUp::NetworkChanged, out),
            Action::SystemDidWake => self.network_back(WhyHungUp::Slept, out),
            Action::SchedulerStarted => self.running = true,
            Action::SchedulerStopped => self.running = false,
            Action::PeerConnectionTimerTicked => self.wake = None,
            Action::SettingsChanged(settings) => self.settings_changed(*settings),
        }
        self.schedule(out);
        effects
    }

    /// Makes a peer known; false if it can't be.
    pub(crate) fn ensure(&mut self, key: FeedId, out: &mut Effects) -> bool {
        if self.peers.contains_key(&key) {
            return true;
        }
        if self.peers.len() >= self.settings.most_peers {
            let Some(victim) = self.least_valued() else { return false };
            self.remove(victim, out);
        }
        self.peers.insert(key, Peer::new(self.next_birth, self.now));
        self.next_birth += 1;
        out.push(Effect::Changed { peer: key, change: Change::Added });
        true
    }

    /// The one of some peers, taken at random, that would be missed least; `None` if all would be.
    fn least_valued(&mut self) -> Option<FeedId> {
        let start = self.random_key();
        let around = self.peers.range(start..).chain(self.peers.range(..start)).take(SAMPLE);
        let dispensable = around.filter(|(_, peer)| !peer.is_valued());
        let worth = |peer: &Peer| {
            let priority = std::cmp::Reverse(peer.priority(&self.settings));
            (priority, peer.last_success, std::cmp::Reverse(peer.failures), peer.birth)
        };
        dispensable.min_by_key(|(_, peer)| worth(peer)).map(|(key, _)| *key)
    }

    fn remove(&mut self, key: FeedId, out: &mut Effects) {
        self.set_place(key, None);
        if self.peers.remove(&key).is_some() {
            out.push(Effect::Changed { peer: key, change: Change::Removed });
        }
    }

    /// Forgets a peer of which nothing is left to know.
    pub(crate) fn sweep(&mut self, key: FeedId, out: &mut Effects) {
        let idle = |peer: &Peer| {
            peer.routes.is_empty() && !peer.long_term && !peer.banned && peer.link.is_none() && peer.dialing.is_empty()
        };
        if self.peers.get(&key).is_some_and(idle) {
            self.remove(key, out);
        }
    }

    /// Forgets a peer that could not be reached for long enough, and that nobody would miss.
    pub(crate) fn give_up(&mut self, key: FeedId, out: &mut Effects) {
        let settings = &self.settings;
        let Some(peer) = self.peers.get(&key) else { return };
        let long_ago = |when: Millis, limit: Millis| self.now.saturating_sub(when) >= limit;
        let dead = peer.failures >= settings.forget_failures
            && match peer.last_success {
                None => long_ago(peer.known_since, settings.forget_after),
                Some(when) => long_ago(when, settings.forget_lost_after),
            };
        if !dead || peer.is_valued() {
            return;
        }
        self.remove(key, out);
        out.push(Effect::Persist);
        if self.forgotten.len() >= self.settings.most_forgotten {
            let oldest = self.forgotten.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key);
            oldest.map(|key| self.forgotten.remove(&key));
        }
        self.forgotten.insert(key, self.now.saturating_add(self.settings.forget_for));
    }

    pub(crate) fn route_added(&mut self, key: FeedId, address: String, source: Source, out: &mut Effects) {
        let refused = |why| Effect::Refused { peer: key, why };
        if key == self.own {
            return out.push(refused(Refusal::OwnKey));
        }
        if address.len() > MAX_ROUTE {
            return out.push(refused(Refusal::RouteTooLong));
        }
        if let Some(until) = self.forgotten.get(&key) {
            if *until > self.now && !source.revives() {
                return;
            }
            self.forgotten.remove(&key);
        }
        if !self.ensure(key, out) {
            return out.push(refused(Refusal::TableFull));
        }
        let most = self.settings.most_routes;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Some(route) = peer.routes.iter_mut().find(|route| route.address == address) {
            route.announced = route.announced.saturating_add(1);
            if !route.said_by(source) {
                return;
            }
        } else {
            let route = KnownRoute::new(address, source);
            if peer.routes.len() < most {
                peer.routes.push(route);
            } else {
                // The one that has failed most makes room, unless it is worth more than a mere claim.
                let worst = peer.routes.iter_mut().max_by_key(|route| (route.source, route.failures));
                match worst.filter(|worst| worst.source >= source && worst.last_success.is_none()) {
                    Some(worst) => *worst = route,
                    None => return,
                }
            }
        }
        if source.is_saved() {
            out.push(Effect::Persist);
        }
        self.replan(key);
    }

    /// A route is no longer known from `source`, or from anyone.
    pub(crate) fn route_gone(&mut self, key: FeedId, address: &str, source: Option<Source>, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let said = |route: &KnownRoute| source.is_none_or(|source| route.is_from(source));
        let Some(at) = peer.routes.iter().position(|route| route.address == address && said(route)) else { return };
        if source.is_none_or(|gone| !peer.routes[at].keep_sources(|source| source != gone)) {
            peer.routes.remove(at);
        }
        if source.is_none_or(Source::is_saved) {
            out.push(Effect::Persist);
        }
        self.replan(key);
        self.sweep(key, out);
    }

    fn forgotten(&mut self, key: FeedId, out: &mut Effects) {
        self.cancel_dials(key, out);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.routes.clear();
        peer.long_term = false;
        peer.autoconnect = true;
        peer.wanted = None;
        peer.asked = false;
        out.push(Effect::Persist);
        self.set_place(key, None);
        self.sweep(key, out);
    }

    fn long_term_set(&mut self, key: FeedId, on: bool, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return out.push(Effect::Refused { peer: key, why: Refusal::UnknownPeer });
        };
        peer.long_term = on;
        peer.wanted = None;
        peer.asked &= on;
        out.push(Effect::Persist);
        self.replan(key);
        self.sweep(key, out);
    }

    fn autoconnect_set(&mut self, key: FeedId, on: bool, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::replace(&mut peer.autoconnect, on) != on {
            out.push(Effect::Persist);
            self.replan(key);
        }
    }

    fn prioritised(&mut self, key: FeedId, hops: Option<u32>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::replace(&mut peer.hops, hops) != hops {
            self.replan(key);
        }
    }

    fn banned(&mut self, key: FeedId, on: bool, out: &mut Effects) {
        if key == self.own || (!on && !self.peers.contains_key(&key)) {
            return;
        }
        if !self.ensure(key, out) {
            return out.push(Effect::Refused { peer: key, why: Refusal::TableFull });
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::replace(&mut peer.banned, on) == on {
            return;
        }
        peer.asked = false;
        out.push(Effect::Persist);
        if on {
            self.cancel_dials(key, out);
            self.hang_up(key, WhyHungUp::Banned, out);
        }
        self.replan(key);
        self.sweep(key, out);
    }

    fn connect_requested(&mut self, key: FeedId, out: &mut Effects) {
        let refused = |why| Effect::Refused { peer: key, why };
        if key == self.own {
            return out.push(refused(Refusal::OwnKey));
        }
        let Some(peer) = self.peers.get_mut(&key) else { return out.push(refused(Refusal::UnknownPeer)) };
        if peer.banned {
            return out.push(refused(Refusal::Banned));
        }
        let connected = peer.link.as_ref().is_some_and(|link| !link.leaving);
        if peer.routes.is_empty() && !connected {
            return out.push(refused(Refusal::NoRoute));
        }
        if peer.wanted != Some(true) {
            peer.wanted = Some(true);
            out.push(Effect::Persist);
        }
        if connected || !peer.dialing.is_empty() {
            return;
        }
        peer.asked = true;
        peer.expected = None;
        peer.routes.iter_mut().for_each(|route| route.tried = false);
        self.plan(key, self.now);
    }

    fn disconnect_requested(&mut self, key: FeedId, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.wanted = Some(false);
        peer.asked = false;
        out.push(Effect::Persist);
        self.set_place(key, None);
        self.cancel_dials(key, out);
        self.hang_up(key, WhyHungUp::ByHand, out);
        self.sweep(key, out);
    }

    fn expect(&mut self, key: FeedId) {
        let until = self.now.saturating_add(self.settings.dial_timeout);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.expected = Some(until);
        self.replan(key);
    }

    fn transfers(&mut self, key: FeedId, on: bool) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.link.is_some()) else { return };
        peer.transfer = match peer.transfer {
            _ if !on => None,
            Some(transfer) => Some(Transfer { progress: now, ..transfer }),
            None => Some(Transfer { since: now, progress: now }),
        };
    }
}
