//! The reducer.

use sbot_feed::FeedId;

use crate::action::{Action, Change, Effect, Refusal, WhyHungUp};
use crate::state::{AttemptId, Direction, KnownRoute, Link, LinkId, MAX_ERROR, MAX_ROUTE, Millis, Peer, Source, State};

type Effects = Vec<Effect>;

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
            Action::RouteRemoved { peer, route } => self.route_removed(peer, &route, out),
            Action::PeerForgotten { peer } => self.forgotten(peer, out),
            Action::LongTermSet { peer, on } => self.long_term_set(peer, on, out),
            Action::PeerPrioritised { peer, hops } => self.prioritised(peer, hops),
            Action::PeerBanned { peer, on } => self.banned(peer, on, out),
            Action::ConnectRequested { peer } => self.connect_requested(peer, out),
            Action::DisconnectRequested { peer } => self.disconnect_requested(peer, out),
            Action::RemotePeerConnectionSucceeded { peer, attempt, link } => self.succeeded(peer, attempt, link, out),
            Action::RemotePeerConnectionFailed { peer, attempt, error } => self.failed(peer, attempt, &error, out),
            Action::RemotePeerClientDidConnect { peer, link, address } => self.dialed_us(peer, link, address, out),
            Action::RemotePeerDidDisconnect { peer, link, error } => self.ended(peer, link, error.as_deref(), out),
            Action::NetworkDidReconnect => self.reconnect(out),
            Action::SchedulerStarted => self.running = true,
            Action::SchedulerStopped => self.running = false,
            Action::PeerConnectionTimerTicked => self.wake = None,
            Action::SettingsChanged(settings) => self.settings = settings,
        }
        self.schedule(out);
        effects
    }

    /// Makes a peer known; false if it can't be.
    fn ensure(&mut self, key: FeedId, out: &mut Effects) -> bool {
        if self.peers.contains_key(&key) {
            return true;
        }
        if self.peers.len() >= self.settings.most_peers {
            let worth = |peer: &Peer| (peer.last_success, std::cmp::Reverse(peer.failures), peer.birth);
            let victim = self.peers.iter().filter(|(_, peer)| !peer.is_valued()).min_by_key(|(_, peer)| worth(peer));
            let Some(victim) = victim.map(|(key, _)| *key) else { return false };
            self.remove(victim, out);
        }
        self.peers.insert(key, Peer::new(self.next_birth, self.now));
        self.next_birth += 1;
        out.push(Effect::Changed { peer: key, change: Change::Added });
        true
    }

    fn remove(&mut self, key: FeedId, out: &mut Effects) {
        self.set_next_try(key, None);
        if self.peers.remove(&key).is_some() {
            out.push(Effect::Changed { peer: key, change: Change::Removed });
        }
    }

    /// Forgets a peer of which nothing is left to know.
    fn sweep(&mut self, key: FeedId, out: &mut Effects) {
        let idle = |peer: &Peer| {
            peer.routes.is_empty() && !peer.long_term && !peer.banned && peer.link.is_none() && peer.dialing.is_none()
        };
        if self.peers.get(&key).is_some_and(idle) {
            self.remove(key, out);
        }
    }

    fn route_added(&mut self, key: FeedId, address: String, source: Source, out: &mut Effects) {
        let refused = |why| Effect::Refused { peer: key, why };
        if key == self.own {
            return out.push(refused(Refusal::OwnKey));
        }
        if address.len() > MAX_ROUTE {
            return out.push(refused(Refusal::RouteTooLong));
        }
        if !self.ensure(key, out) {
            return out.push(refused(Refusal::TableFull));
        }
        let (most, now) = (self.settings.most_routes, self.now);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Some(route) = peer.routes.iter_mut().find(|route| route.address == address) {
            route.announced = route.announced.saturating_add(1);
            if route.source <= source {
                return;
            }
            route.source = source;
        } else {
            let route = KnownRoute { address, source, announced: 1, last_success: None, failures: 0, tried: false };
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
        out.push(Effect::Persist);
        if self.peers.get(&key).is_some_and(|peer| peer.next_try.is_none()) {
            self.plan(key, now);
        }
    }

    fn route_removed(&mut self, key: FeedId, address: &str, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let before = peer.routes.len();
        peer.routes.retain(|route| route.address != address);
        if peer.routes.len() == before {
            return;
        }
        out.push(Effect::Persist);
        let when = peer.next_try.unwrap_or(self.now);
        self.plan(key, when);
        self.sweep(key, out);
    }

    fn forgotten(&mut self, key: FeedId, out: &mut Effects) {
        self.cancel_dial(key, out);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.routes.clear();
        peer.long_term = false;
        peer.wanted = None;
        peer.asked = false;
        out.push(Effect::Persist);
        self.set_next_try(key, None);
        self.sweep(key, out);
    }

    fn long_term_set(&mut self, key: FeedId, on: bool, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return out.push(Effect::Refused { peer: key, why: Refusal::UnknownPeer });
        };
        peer.long_term = on;
        peer.wanted = None;
        out.push(Effect::Persist);
        let when = peer.next_try.unwrap_or(self.now);
        self.plan(key, when);
        self.sweep(key, out);
    }

    fn prioritised(&mut self, key: FeedId, hops: Option<u32>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::replace(&mut peer.hops, hops) != hops {
            let when = peer.next_try.unwrap_or(self.now);
            self.plan(key, when);
        }
    }

    fn banned(&mut self, key: FeedId, on: bool, out: &mut Effects) {
        if key == self.own || (!on && !self.peers.contains_key(&key)) {
            return;
        }
        if !self.ensure(key, out) {
            return out.push(Effect::Refused { peer: key, why: Refusal::TableFull });
        }
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::replace(&mut peer.banned, on) == on {
            return;
        }
        peer.asked = false;
        out.push(Effect::Persist);
        if on {
            self.cancel_dial(key, out);
            self.hang_up(key, WhyHungUp::Banned, out);
        }
        self.plan(key, now);
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
        if connected || peer.dialing.is_some() {
            return;
        }
        peer.asked = true;
        peer.routes.iter_mut().for_each(|route| route.tried = false);
        self.plan(key, self.now);
    }

    fn disconnect_requested(&mut self, key: FeedId, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.wanted = Some(false);
        peer.asked = false;
        out.push(Effect::Persist);
        self.set_next_try(key, None);
        self.cancel_dial(key, out);
        self.hang_up(key, WhyHungUp::ByHand, out);
        self.sweep(key, out);
    }

    /// Breaks off the dial under way, if there is one.
    fn cancel_dial(&mut self, key: FeedId, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(attempt) = peer.dialing.take() else { return };
        self.dials -= 1;
        out.push(Effect::CancelDial { peer: key, attempt: attempt.id });
        if peer.link.is_none() {
            peer.since = self.now;
            out.push(Effect::Changed { peer: key, change: Change::Disconnected });
        }
    }

    /// Asks for the end of the live link, if there is one.
    fn hang_up(&mut self, key: FeedId, why: WhyHungUp, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(link) = peer.link.as_mut().filter(|link| !link.leaving) else { return };
        link.leaving = true;
        out.push(Effect::HangUp { peer: key, link: link.id, why });
        peer.since = self.now;
        out.push(Effect::Changed { peer: key, change: Change::Disconnecting });
    }

    fn count(&mut self, direction: Direction) -> &mut usize {
        match direction {
            Direction::Outgoing => &mut self.outbound,
            Direction::Incoming => &mut self.inbound,
        }
    }

    fn succeeded(&mut self, key: FeedId, attempt: AttemptId, link: LinkId, out: &mut Effects) {
        let now = self.now;
        let dialing = self.peers.get_mut(&key).and_then(|peer| peer.dialing.take_if(|dialing| dialing.id == attempt));
        let Some(dialing) = dialing else {
            return out.push(Effect::HangUp { peer: key, link, why: WhyHungUp::NoLongerWanted });
        };
        self.dials -= 1;
        let route = self
            .peers
            .get_mut(&key)
            .and_then(|peer| peer.routes.iter_mut().find(|route| route.address == dialing.route));
        if let Some(route) = route {
            route.last_success = Some(now);
            route.failures = 0;
            out.push(Effect::Persist);
        }
        self.settle(key, link, Direction::Outgoing, dialing.route, out);
    }

    fn dialed_us(&mut self, key: FeedId, link: LinkId, address: String, out: &mut Effects) {
        if key == self.own {
            return;
        }
        let hang_up = |why| Effect::HangUp { peer: key, link, why };
        let peer = self.peers.get(&key);
        if peer.is_some_and(|peer| peer.banned) {
            return out.push(hang_up(WhyHungUp::Banned));
        }
        let counted = |link: &Link| link.direction == Direction::Incoming;
        let replaces = peer.and_then(|peer| peer.link.as_ref()).is_some_and(counted);
        if (!replaces && self.inbound >= self.settings.most_inbound) || !self.ensure(key, out) {
            return out.push(hang_up(WhyHungUp::TooMany));
        }
        let address = if address.len() > MAX_ROUTE { String::new() } else { address };
        self.settle(key, link, Direction::Incoming, address, out);
    }

    /// Takes a link that has come up for the one, or ends it in favour of the one there is.
    fn settle(&mut self, key: FeedId, id: LinkId, direction: Direction, address: String, out: &mut Effects) {
        let now = self.now;
        // Both ends come to the same answer: what the smaller key dialed.
        let ours_goes_before = self.own < key;
        let preferred = (direction == Direction::Outgoing) == ours_goes_before;
        let window = self.settings.race_window;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Some(old) = &peer.link {
            // An older link from the other end, or one that this end has dialed anew: the other end has lost it.
            let raced = !old.leaving && old.direction != direction && now.saturating_sub(old.since) <= window;
            if raced && !preferred {
                return out.push(Effect::HangUp { peer: key, link: id, why: WhyHungUp::Duplicate });
            }
            let (old, before) = (old.id, old.direction);
            let leaving = peer.link.take().is_some_and(|link| link.leaving);
            *self.count(before) -= 1;
            if !leaving {
                out.push(Effect::HangUp { peer: key, link: old, why: WhyHungUp::Duplicate });
            }
        }
        *self.count(direction) += 1;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.link = Some(Link { id, direction, address, since: now, leaving: false });
        peer.since = now;
        peer.last_success = Some(now);
        peer.last_error = None;
        peer.asked = false;
        peer.routes.iter_mut().for_each(|route| route.tried = false);
        self.set_next_try(key, None);
        if preferred {
            self.cancel_dial(key, out);
        }
        out.push(Effect::Changed { peer: key, change: Change::Connected });
    }

    fn failed(&mut self, key: FeedId, attempt: AttemptId, error: &str, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(dialing) = peer.dialing.take_if(|dialing| dialing.id == attempt) else { return };
        self.dials -= 1;
        peer.last_error = Some(cut(error));
        if let Some(route) = peer.routes.iter_mut().find(|route| route.address == dialing.route) {
            route.failures = route.failures.saturating_add(1);
        }
        if peer.link.is_some() {
            return;
        }
        peer.since = self.now;
        if peer.routes.iter().any(|route| !route.tried) {
            return self.plan(key, self.now);
        }
        peer.asked = false;
        peer.failures = peer.failures.saturating_add(1);
        peer.routes.iter_mut().for_each(|route| route.tried = false);
        let failures = peer.failures;
        out.push(Effect::Changed { peer: key, change: Change::ConnectFailed });
        let pause = self.pause(failures);
        self.plan(key, self.now.saturating_add(pause));
        self.sweep(key, out);
    }

    fn ended(&mut self, key: FeedId, id: LinkId, error: Option<&str>, out: &mut Effects) {
        let (now, stable_after) = (self.now, self.settings.stable_after);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(link) = peer.link.take_if(|link| link.id == id) else { return };
        let lasted = now.saturating_sub(link.since);
        peer.durations.add(lasted);
        peer.since = now;
        peer.last_success = Some(now);
        if let Some(error) = error {
            peer.last_error = Some(cut(error));
        }
        if lasted >= stable_after || link.leaving {
            peer.failures = 0;
        } else {
            peer.failures = peer.failures.saturating_add(1);
        }
        let failures = peer.failures;
        *self.count(link.direction) -= 1;
        out.push(Effect::Changed { peer: key, change: Change::Disconnected });
        if self.peers.get(&key).is_some_and(|peer| peer.dialing.is_none()) {
            // If the user has asked for it again meanwhile, at once.
            let asked = self.peers.get(&key).is_some_and(|peer| peer.asked);
            let pause = if asked { 0 } else { self.pause(failures) };
            self.plan(key, now.saturating_add(pause));
        }
        self.sweep(key, out);
    }

    fn reconnect(&mut self, out: &mut Effects) {
        let keys: Vec<FeedId> = self.peers.keys().copied().collect();
        for key in keys {
            self.cancel_dial(key, out);
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            peer.failures = 0;
            for route in &mut peer.routes {
                (route.failures, route.tried) = (0, false);
            }
            // Its end may never be reported.
            if let Some(link) = peer.link.take() {
                peer.durations.add(self.now.saturating_sub(link.since));
                peer.since = self.now;
                *self.count(link.direction) -= 1;
                if !link.leaving {
                    out.push(Effect::HangUp { peer: key, link: link.id, why: WhyHungUp::NetworkChanged });
                }
                out.push(Effect::Changed { peer: key, change: Change::Disconnected });
            }
            let later = self.within(self.settings.spread);
            self.plan(key, self.now.saturating_add(later));
            self.sweep(key, out);
        }
    }
}

/// An error as it is kept.
fn cut(error: &str) -> String {
    let end = (0..=error.len().min(MAX_ERROR)).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
    error[..end].to_owned()
}

#[cfg(test)]
#[path = "reduce_tests.rs"]
mod tests;
