//! Links: which one stays when there are two, who is let in, and what follows when one ends.

use sbot_feed::FeedId;

use crate::action::{AttemptId, Change, Effect, LinkId, WhyHungUp};
use crate::peer::{Direction, Link, Peer};
use crate::route::{Kind, MAX_ROUTE};
use crate::state::{Effects, State, cut};

impl State {
    /// Breaks off the dials of a peer.
    pub(crate) fn cancel_dials(&mut self, key: FeedId, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.dialing.is_empty()) else { return };
        let dialing = std::mem::take(&mut peer.dialing);
        self.dials -= dialing.len();
        out.extend(dialing.into_iter().map(|attempt| Effect::CancelDial { peer: key, attempt: attempt.id }));
        if peer.link.is_none() {
            peer.since = self.now;
            out.push(Effect::Changed { peer: key, change: Change::Disconnected });
        }
        self.settle_slot(key, None);
    }

    /// Asks for the end of the live link, if there is one.
    pub(crate) fn hang_up(&mut self, key: FeedId, why: WhyHungUp, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(link) = peer.link.as_mut().filter(|link| !link.leaving) else { return };
        link.leaving = true;
        out.push(Effect::HangUp { peer: key, link: link.id, why });
        peer.since = self.now;
        self.set_aging(key, None);
        out.push(Effect::Changed { peer: key, change: Change::Disconnecting });
    }

    /// Ends the live link without waiting for the report of its end, which may never come.
    pub(crate) fn drop_link(&mut self, key: FeedId, why: WhyHungUp, out: &mut Effects) {
        let Some(link) = self.take_link(key) else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.durations.add(self.now.saturating_sub(link.since));
        peer.since = self.now;
        if !link.leaving {
            out.push(Effect::HangUp { peer: key, link: link.id, why });
        }
        out.push(Effect::Changed { peer: key, change: Change::Disconnected });
    }

    /// Takes the link out of the books.
    fn take_link(&mut self, key: FeedId) -> Option<Link> {
        let peer = self.peers.get_mut(&key)?;
        let link = peer.link.take()?;
        peer.transfer = None;
        match link.direction {
            Direction::Outgoing => self.outbound -= 1,
            Direction::Incoming => {
                self.callers.remove(&key);
            }
        }
        self.set_aging(key, None);
        self.settle_slot(key, None);
        Some(link)
    }

    /// Whoever is being dialed, or was dialed and is connected, takes a slot; nobody else does. `kind` says which one it
    /// is now, if that is new.
    pub(crate) fn settle_slot(&mut self, key: FeedId, kind: Option<Kind>) {
        let Some(peer) = self.peers.get(&key) else { return };
        let dialed = peer.link.as_ref().is_some_and(|link| link.direction == Direction::Outgoing);
        let takes = dialed || !peer.dialing.is_empty();
        if dialed || !takes {
            self.set_patience(key, None);
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let slot = if takes { kind.or(peer.slot) } else { None };
        let before = std::mem::replace(&mut peer.slot, slot);
        if before != slot {
            before.inspect(|kind| self.slots[*kind] -= 1);
            slot.inspect(|kind| self.slots[*kind] += 1);
        }
        if (peer.dialing.is_empty() || peer.link.is_some())
            && let Some(when) = peer.stagger.take()
        {
            self.staggered.remove(&(when, key));
        }
    }

    /// Sets when a dial is overdue; it isn't now.
    pub(crate) fn set_patience(&mut self, key: FeedId, when: Option<u64>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::take(&mut peer.silent)
            && let Some(kind) = peer.slot
        {
            self.silent[kind] -= 1;
        }
        if let Some(before) = std::mem::replace(&mut peer.patience, when) {
            self.patience.remove(&(before, key));
        }
        if let Some(when) = when {
            self.patience.insert((when, key));
        }
    }

    /// Says from when on a link that we dialed may make room for others; `None` if there is none any more.
    fn set_aging(&mut self, key: FeedId, ages: Option<(Kind, u64)>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Some((kind, when)) = std::mem::replace(&mut peer.ages, ages) {
            self.aging.remove(&(kind, when, key));
        }
        if let Some((kind, when)) = ages {
            self.aging.insert((kind, when, key));
        }
    }

    pub(crate) fn succeeded(&mut self, key: FeedId, attempt: AttemptId, link: LinkId, out: &mut Effects) {
        let now = self.now;
        let dialing = self.peers.get_mut(&key).and_then(|peer| {
            let at = peer.dialing.iter().position(|dialing| dialing.id == attempt)?;
            Some(peer.dialing.remove(at))
        });
        let Some(dialing) = dialing else {
            return out.push(Effect::HangUp { peer: key, link, why: WhyHungUp::NoLongerWanted });
        };
        self.dials -= 1;
        (self.failed_in_row, self.brake_until) = (0, 0);
        let routes = self.peers.get_mut(&key).map(|peer| &mut peer.routes);
        if let Some(route) = routes.and_then(|routes| routes.iter_mut().find(|route| route.address == dialing.route)) {
            route.last_success = Some(now);
            route.failures = 0;
            out.push(Effect::Persist);
        }
        self.settle(key, link, Direction::Outgoing, dialing.route, out);
    }

    pub(crate) fn dialed_us(
        &mut self,
        key: FeedId,
        link: LinkId,
        address: String,
        hops: Option<u32>,
        out: &mut Effects,
    ) {
        if key == self.own {
            return;
        }
        let hang_up = |why| Effect::HangUp { peer: key, link, why };
        if self.peers.get(&key).is_some_and(|peer| peer.banned) {
            return out.push(hang_up(WhyHungUp::Banned));
        }
        let has_room = self.callers.contains(&key) || self.make_room_for_caller(key, hops, out);
        if !has_room || !self.ensure(key, out) {
            return out.push(hang_up(WhyHungUp::TooMany));
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.hops = hops;
        }
        let address = if address.len() > MAX_ROUTE { String::new() } else { address };
        self.settle(key, link, Direction::Incoming, address, out);
    }

    /// Whether there is room for one more who dials us; if not, the least useful one of them goes, if it is less useful.
    fn make_room_for_caller(&mut self, key: FeedId, hops: Option<u32>, out: &mut Effects) -> bool {
        if self.callers.len() < self.settings.most_inbound {
            return true;
        }
        let (now, settings) = (self.now, &self.settings);
        let usefulness = |peer: &Peer| peer.usefulness(now, settings);
        let callers = self.callers.iter().filter_map(|key| Some((usefulness(self.peers.get(key)?), *key)));
        let Some((least, victim)) = callers.min() else { return false };
        let mut newcomer = self.peers.get(&key).cloned().unwrap_or_else(|| Peer::new(0, now));
        newcomer.hops = hops;
        if (usefulness(&newcomer).0, usefulness(&newcomer).1) <= (least.0, least.1) {
            return false;
        }
        self.drop_link(victim, WhyHungUp::LessUseful, out);
        self.plan_after_pause(victim);
        self.sweep(victim, out);
        true
    }

    /// Takes a link that has come up for the one, or ends it in favour of the one there is.
    fn settle(&mut self, key: FeedId, id: LinkId, direction: Direction, address: String, out: &mut Effects) {
        let now = self.now;
        // Both ends come to the same answer: what the smaller key dialed.
        let ours_goes_before = self.own < key;
        let preferred = (direction == Direction::Outgoing) == ours_goes_before;
        let window = self.settings.race_window;
        let Some(old) = self.peers.get(&key).map(|peer| peer.link.clone()) else { return };
        if let Some(old) = old {
            // An older link from the other end, or one that this end has dialed anew: the other end has lost it.
            let raced = !old.leaving && old.direction != direction && now.saturating_sub(old.since) <= window;
            if raced && !preferred {
                if direction == Direction::Outgoing {
                    self.cancel_dials(key, out);
                }
                self.settle_slot(key, None);
                return out.push(Effect::HangUp { peer: key, link: id, why: WhyHungUp::Duplicate });
            }
            self.take_link(key);
            if !old.leaving {
                out.push(Effect::HangUp { peer: key, link: old.id, why: WhyHungUp::Duplicate });
            }
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let route = peer.routes.iter().find(|route| route.address == address);
        let kind = route.map_or_else(|| Kind::of(&address), |route| route.kind);
        peer.link = Some(Link { id, direction, address, since: now, leaving: false });
        peer.since = now;
        peer.last_success = Some(now);
        peer.last_error = None;
        peer.asked = false;
        peer.expected = None;
        peer.rests = None;
        peer.routes.iter_mut().for_each(|route| route.tried = false);
        self.set_place(key, None);
        match direction {
            Direction::Outgoing => {
                self.outbound += 1;
                let lifetime = self.settings.slots(kind).lifetime.unwrap_or(u64::MAX);
                self.set_aging(key, Some((kind, now.saturating_add(lifetime))));
            }
            Direction::Incoming => {
                self.callers.insert(key);
            }
        }
        if preferred || direction == Direction::Outgoing {
            self.cancel_dials(key, out);
        }
        self.settle_slot(key, (direction == Direction::Outgoing).then_some(kind));
        out.push(Effect::Changed { peer: key, change: Change::Connected });
    }

    pub(crate) fn failed(&mut self, key: FeedId, attempt: AttemptId, error: &str, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(at) = peer.dialing.iter().position(|dialing| dialing.id == attempt) else { return };
        let dialing = peer.dialing.remove(at);
        self.dials -= 1;
        peer.last_error = Some(cut(error));
        if let Some(route) = peer.routes.iter_mut().find(|route| route.address == dialing.route) {
            route.failures = route.failures.saturating_add(1);
        }
        let (linked, dialing) = (peer.link.is_some(), !peer.dialing.is_empty());
        if dialing {
            // The next one is tried at once.
            self.stagger(key, self.now);
            return self.give_up_at_hubs(key, out);
        }
        let untried = peer.routes.iter().any(|route| !route.tried);
        if !linked {
            peer.since = self.now;
        }
        self.settle_slot(key, None);
        if linked {
            return;
        }
        if untried {
            return self.plan(key, self.now);
        }
        self.all_failed(key, out);
    }

    /// No route of a peer has led to it.
    fn all_failed(&mut self, key: FeedId, out: &mut Effects) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let candidate = !peer.asked && !peer.is_kept_connected();
        peer.asked = false;
        peer.failures = peer.failures.saturating_add(1);
        peer.routes.iter_mut().for_each(|route| route.tried = false);
        out.push(Effect::Changed { peer: key, change: Change::ConnectFailed });
        out.push(Effect::Persist);
        if candidate {
            self.brake();
            self.rest(key);
        }
        self.plan_after_pause(key);
        self.give_up_at_hubs(key, out);
        self.give_up(key, out);
        self.sweep(key, out);
    }

    pub(crate) fn ended(&mut self, key: FeedId, id: LinkId, error: Option<&str>, out: &mut Effects) {
        let (now, stable_after) = (self.now, self.settings.stable_after);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.link.as_ref().is_none_or(|link| link.id != id) {
            return;
        }
        let Some(link) = self.take_link(key) else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let lasted = now.saturating_sub(link.since);
        peer.durations.add(lasted);
        peer.since = now;
        peer.last_success = Some(now);
        peer.last_tried = Some(now);
        if let Some(error) = error {
            peer.last_error = Some(cut(error));
        }
        if lasted >= stable_after || link.leaving {
            peer.failures = 0;
        } else {
            peer.failures = peer.failures.saturating_add(1);
        }
        out.push(Effect::Changed { peer: key, change: Change::Disconnected });
        if peer.dialing.is_empty() {
            // If the user has asked for it again meanwhile, at once.
            if peer.asked { self.plan(key, now) } else { self.plan_after_pause(key) }
        }
        self.sweep(key, out);
    }
}
