//! Whom to dial now, whom to hang up on for somebody else, and how long to wait after a failure.
//!
//! Whoever may be dialed waits in one of three queues: `due` by the time from which it may, `ready` by how urgent it is once
//! that time has come, and candidates that have failed in `resting`, as long as there is any link that we dialed. What
//! `ready` holds is dialed as far as there is room: first whom the user waits for, then whom we are to be connected with
//! always, then candidates for the slots of their kind, by priority, then those that have failed least, then by hops, then
//! whoever was not tried for longest.

use std::collections::BTreeSet;

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};

use crate::action::{AttemptId, Change, Effect, WhyHungUp};
use crate::peer::{Attempt, Class, Peer, Priority};
use crate::route::Kind;
use crate::state::{Effects, Millis, State};

/// Where a peer waits to be dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Until then.
    Due(Millis),
    /// For room.
    Ready(Ready),
    /// Until then, or until there is no link that we dialed.
    Resting(Millis),
}

impl Place {
    /// From when on it may be dialed.
    pub(crate) fn when(self) -> Millis {
        match self {
            Place::Due(when) | Place::Resting(when) => when,
            Place::Ready(ready) => ready.when,
        }
    }
}

/// What a peer waits for: room for one more dial, one more link, or one of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Lane {
    Asked,
    Kept,
    Slot(Kind),
}

/// A peer whose time has come; the smallest one of a lane is dialed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ready {
    lane: Lane,
    priority: Priority,
    /// How often it has failed in a row: of two friends the one that is likely there.
    failures: u32,
    hops: u32,
    tried: Option<Millis>,
    when: Millis,
    key: FeedId,
}

impl Ready {
    /// What it waits for.
    pub(crate) fn lane(self) -> Lane {
        self.lane
    }

    fn first_of(lane: Lane) -> Self {
        Ready { lane, priority: Priority::High, failures: 0, hops: 0, tried: None, when: 0, key: FeedId([0; 32]) }
    }
}

impl State {
    /// The next number of the generator (splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
    /// generators").
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.random;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// Any time below `limit`.
    pub(crate) fn within(&mut self, limit: Millis) -> Millis {
        self.draw() % limit.max(1)
    }

    /// Any key, from which to look for peers.
    pub(crate) fn random_key(&mut self) -> FeedId {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.draw().to_be_bytes());
        FeedId(key)
    }

    /// The pause after so many failures in a row: it doubles with each, and is lengthened by up to its half, so that
    /// a longer row always means a longer pause until the limit.
    fn pause(&mut self, failures: u32, first: Millis, longest: Millis) -> Millis {
        let doubled = 1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
        let pause = first.saturating_mul(doubled).min(longest / 3 * 2);
        pause + self.within(pause / 2)
    }

    /// The pause of whoever has been reached before, or is to be connected always.
    pub(crate) fn pause_proven(&mut self, failures: u32) -> Millis {
        self.pause(failures, self.settings.first_pause, self.settings.longest_pause)
    }

    /// The pause of a hub.
    pub(crate) fn pause_of_hub(&mut self, failures: u32) -> Millis {
        self.pause(failures, self.settings.first_pause, self.settings.longest_pause_hub)
    }

    /// The pause of a candidate that never was reached.
    pub(crate) fn pause_unproven(&mut self, failures: u32) -> Millis {
        self.pause(failures, self.settings.first_pause_unproven, self.settings.longest_pause_unproven)
    }

    /// Has a peer dialed again after the pause that its failures call for.
    pub(crate) fn plan_after_pause(&mut self, key: FeedId) {
        let Some(peer) = self.peers.get(&key) else { return };
        let proven = peer.last_success.is_some() || peer.is_kept_connected();
        let failures = peer.failures;
        let pause = if proven { self.pause_proven(failures) } else { self.pause_unproven(failures) };
        self.plan(key, self.now.saturating_add(pause));
    }

    /// After a row of failures, whosever, candidates are dialed ever more slowly: it may be our own network.
    pub(crate) fn brake(&mut self) {
        self.failed_in_row = self.failed_in_row.saturating_add(1);
        let beyond = self.failed_in_row.saturating_sub(self.settings.brake_after);
        if beyond > 0 {
            let pause = self.pause(beyond, self.settings.first_pause, self.settings.brake_most);
            self.brake_until = self.now.saturating_add(pause);
        }
    }

    /// A candidate has failed: with any link that we dialed, there is no hurry to try it again.
    pub(crate) fn rest(&mut self, key: FeedId) {
        let rest = self.settings.rest;
        let until = self.now.saturating_add(rest).saturating_add(self.within(rest / 2));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.rests = Some(until);
        }
    }

    /// Sets where a peer waits.
    pub(crate) fn set_place(&mut self, key: FeedId, place: Option<Place>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.place == place {
            return;
        }
        match std::mem::replace(&mut peer.place, place) {
            Some(Place::Due(when)) => self.due.remove(&(when, key)),
            Some(Place::Resting(when)) => self.resting.remove(&(when, key)),
            Some(Place::Ready(ready)) => {
                if let Lane::Slot(kind) = ready.lane {
                    self.waiting[kind] -= 1;
                }
                self.ready.remove(&ready)
            }
            None => false,
        };
        match place {
            Some(Place::Due(when)) => self.due.insert((when, key)),
            Some(Place::Resting(when)) => self.resting.insert((when, key)),
            Some(Place::Ready(ready)) => {
                if let Lane::Slot(kind) = ready.lane {
                    self.waiting[kind] += 1;
                }
                self.ready.insert(ready)
            }
            None => false,
        };
    }

    /// Has a peer dialed from `when` on, if it is one to be dialed at all; takes it out of the queues if it isn't.
    pub(crate) fn plan(&mut self, key: FeedId, when: Millis) {
        let (now, alone) = (self.now, self.outbound == 0);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let rests = peer.rests.filter(|until| *until > now && !alone);
        let when = peer.expected.map_or(when, |expected| when.max(expected));
        let place = match peer.class(&self.settings) {
            None => None,
            Some(_) if when > now => Some(Place::Due(when)),
            Some(Class::Candidate(_)) if rests.is_some() => rests.map(Place::Resting),
            Some(class) => {
                if peer.routes.iter().all(|route| route.tried) {
                    peer.routes.iter_mut().for_each(|route| route.tried = false);
                }
                let kind = peer.next_route().map_or(Kind::Internet, |route| route.kind);
                let (lane, priority) = match class {
                    Class::Asked => (Lane::Asked, Priority::High),
                    Class::Kept => (Lane::Kept, Priority::High),
                    Class::Candidate(priority) => (Lane::Slot(kind), priority),
                };
                let hops = peer.hops.unwrap_or(u32::MAX);
                let failures = peer.failures;
                Some(Place::Ready(Ready { lane, priority, failures, hops, tried: peer.last_tried, when, key }))
            }
        };
        self.set_place(key, place);
    }

    /// Plans a peer anew at the time at which it was to be dialed, or at once: what is known of it has changed.
    pub(crate) fn replan(&mut self, key: FeedId) {
        let when = match self.peers.get(&key).and_then(|peer| peer.place) {
            Some(Place::Due(when)) => when,
            Some(Place::Ready(ready)) => ready.when,
            // Its pause is over; whether it goes on resting is found out anew.
            Some(Place::Resting(_)) | None => self.now,
        };
        self.plan(key, when);
    }

    /// With no link that we dialed, and nobody else to dial, those that rest are tried again, the one that has rested longest
    /// first. False if nobody rests.
    fn wake_one_that_rests(&mut self) -> bool {
        let Some((_, key)) = self.resting.first().copied().filter(|_| self.outbound == 0) else { return false };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.rests = None;
        }
        self.plan(key, self.now);
        true
    }

    fn first_in(&self, lane: Lane) -> Option<Ready> {
        self.ready.range(Ready::first_of(lane)..).next().filter(|ready| ready.lane == lane).copied()
    }

    /// How many slots are taken, of whichever kind.
    fn taken(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.slots[kind]).sum()
    }

    fn may_dial(&self) -> bool {
        self.dials < self.settings.most_dials
    }

    /// Dials those whose time has come, as far as there is room, and asks to be woken for what comes next.
    pub(crate) fn schedule(&mut self, out: &mut Effects) {
        while let Some((when, key)) = self.due.first().copied().filter(|(when, _)| *when <= self.now) {
            self.plan(key, when);
        }
        while let Some((when, key)) = self.resting.first().copied().filter(|(when, _)| *when <= self.now) {
            self.plan(key, when);
        }
        self.lose_patience();
        while self.may_dial()
            && let Some((when, key)) = self.staggered.first().copied().filter(|(when, _)| *when <= self.now)
        {
            self.staggered.remove(&(when, key));
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.stagger = None;
                self.dial(key, out);
            }
        }
        while self.may_dial()
            && let Some(ready) = self.first_in(Lane::Asked)
        {
            self.dial(ready.key, out);
        }
        if self.running && self.online {
            self.dial_kept(out);
            for kind in Kind::ALL {
                self.dial_candidates(kind, out);
                self.trim(kind, out);
                self.rotate(kind, out);
            }
            while self.taken() == 0 && self.may_dial_candidates() && self.wake_one_that_rests() {
                Kind::ALL.into_iter().for_each(|kind| self.dial_candidates(kind, out));
            }
        }
        let hubs = self.schedule_hubs(out);
        let next = [hubs, self.next_time()].into_iter().flatten().min();
        if let Some(when) = next.filter(|when| self.wake.is_none_or(|wake| *when < wake)) {
            self.wake = Some(when);
            out.push(Effect::WakeMeAt(when));
        }
    }

    /// Dials that are overdue no longer keep others from being tried.
    fn lose_patience(&mut self) {
        while let Some((when, key)) = self.patience.first().copied().filter(|(when, _)| *when <= self.now) {
            self.patience.remove(&(when, key));
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            peer.patience = None;
            if let Some(kind) = peer.slot {
                peer.silent = true;
                self.silent[kind] += 1;
            }
        }
    }

    fn dial_kept(&mut self, out: &mut Effects) {
        while self.may_dial()
            && let Some(ready) = self.first_in(Lane::Kept)
        {
            if self.taken() >= self.settings.most_outbound {
                return self.make_room(out);
            }
            self.dial(ready.key, out);
        }
    }

    /// Hangs up on a candidate, for one that is to be connected always; one at a time.
    fn make_room(&mut self, out: &mut Effects) {
        if self.outbound > self.aging.len() {
            // One is leaving already.
            return;
        }
        let all = self.aging.iter().map(|(_, when, key)| (*when, *key));
        if let Some((victim, _)) = self.victim(all) {
            self.hang_up(victim, WhyHungUp::MakesRoom, out);
        }
    }

    /// The one of these links that may go: the one with the lowest priority, and of those the oldest; none that is to be
    /// held, or transfers something.
    fn victim(&self, links: impl IntoIterator<Item = (Millis, FeedId)>) -> Option<(FeedId, Priority)> {
        let settings = &self.settings;
        let may_go = |(when, key): (Millis, FeedId)| {
            let peer = self.peers.get(&key)?;
            let stays = peer.is_kept_connected() || peer.is_busy(self.now, settings);
            (!stays).then(|| (std::cmp::Reverse(peer.priority(settings)), when, key))
        };
        links.into_iter().filter_map(may_go).min().map(|(priority, _, key)| (key, priority.0))
    }

    /// Fills the free slots of a kind.
    fn dial_candidates(&mut self, kind: Kind, out: &mut Effects) {
        while self.has_free_slot(kind)
            && self.may_dial_candidates()
            && let Some(ready) = self.first_in(Lane::Slot(kind))
        {
            self.dial(ready.key, out);
        }
    }

    fn has_free_slot(&self, kind: Kind) -> bool {
        self.slots_taken(kind) < self.settings.slots(kind).most
    }

    fn may_dial_candidates(&self) -> bool {
        let most = if self.syncing { self.settings.initial_sync_links } else { usize::MAX };
        self.may_dial() && self.taken() < most.min(self.settings.most_outbound) && self.now >= self.brake_until
    }

    /// By how much the links of a kind have less than its whole lifetime: the more others wait, the shorter it is, by the
    /// square root of their number (ssb-conn `conn-scheduler.js`, `ROTATION_PERIOD`).
    pub(crate) fn hurry(&self, kind: Kind) -> Millis {
        let lifetime = self.settings.slots(kind).lifetime.unwrap_or(0);
        lifetime - lifetime / self.waiting[kind].max(1).isqrt() as Millis
    }

    /// Those links of a kind that we dialed and that aren't being closed, whose lifetime ends until then.
    fn aging_of(&self, kind: Kind, until: Millis) -> impl Iterator<Item = (Millis, FeedId)> {
        let all = (kind, 0, FeedId([0; 32]))..=(kind, until, FeedId([255; 32]));
        self.aging.range(all).map(|(_, when, key)| (*when, *key))
    }

    /// Those links of a kind whose time is over.
    fn aged(&self, kind: Kind) -> impl Iterator<Item = (Millis, FeedId)> {
        self.aging_of(kind, self.now.saturating_add(self.hurry(kind)))
    }

    /// Ends a link if there are more of a kind than slots: one whose time is over, since somebody who followed is connected,
    /// else the newest of the lowest priority.
    fn trim(&mut self, kind: Kind, out: &mut Effects) {
        if self.aging_of(kind, Millis::MAX).count() <= self.settings.slots(kind).most {
            return;
        }
        if let Some((victim, _)) = self.victim(self.aged(kind)) {
            return self.hang_up(victim, WhyHungUp::Rotated, out);
        }
        let newest_first = self.aging_of(kind, Millis::MAX).map(|(when, key)| (Millis::MAX - when, key));
        if let Some((victim, _)) = self.victim(newest_first) {
            self.hang_up(victim, WhyHungUp::NoSlot, out);
        }
    }

    /// Lets others have their turn. Whoever waits is dialed first, with one slot more than there are, and only when it is
    /// connected somebody goes: no good link is given away for a dead address.
    fn rotate(&mut self, kind: Kind, out: &mut Effects) {
        let full = self.slots_taken(kind) == self.settings.slots(kind).most;
        if !full || self.now < self.probe_after[kind] || self.syncing || !self.may_dial_candidates() {
            return;
        }
        let Some(next) = self.first_in(Lane::Slot(kind)) else { return };
        let is_proven = self.peers.get(&next.key).is_some_and(Peer::is_proven);
        match self.victim(self.aged(kind)) {
            // Whoever waits must be worth as much, or be known to answer.
            Some((_, priority)) if next.priority <= priority || is_proven => {
                self.probe_after[kind] = self.now.saturating_add(self.settings.probe_pause);
                self.dial(next.key, out);
            }
            _ => {}
        }
    }

    /// When something is to be done next if nothing happens.
    fn next_time(&self) -> Option<Millis> {
        let after_now = |when: Millis| (when > self.now).then_some(when);
        let first = |queue: &BTreeSet<(Millis, FeedId)>| queue.first().map(|(when, _)| *when).and_then(after_now);
        let mut times = vec![first(&self.staggered)];
        if self.running && self.online {
            times.extend([first(&self.due), first(&self.resting), first(&self.patience)]);
            if !self.resting.is_empty() && self.outbound == 0 {
                times.push(after_now(self.brake_until));
            }
            for kind in Kind::ALL {
                if self.first_in(Lane::Slot(kind)).is_none() {
                    continue;
                }
                times.push(after_now(self.brake_until));
                if !self.has_free_slot(kind) {
                    let hurry = self.hurry(kind);
                    let from = (kind, self.now.saturating_add(hurry), FeedId([255; 32]));
                    let aging = self.aging.range(from..).next();
                    let aging = aging.filter(|(of, when, _)| *of == kind && *when < Millis::MAX);
                    times.push(aging.and_then(|(_, when, _)| after_now(*when - hurry)));
                    times.push(after_now(self.probe_after[kind]));
                }
            }
        }
        times.into_iter().flatten().min()
    }

    /// Has the next route of a peer tried then, beside those that are being dialed, if there is one of the same kind.
    pub(crate) fn stagger(&mut self, key: FeedId, when: Millis) {
        let most = self.settings.most_dials_of_one;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let same_kind = peer.next_route().is_some_and(|route| Some(route.kind) == peer.slot);
        let wanted = peer.link.is_none() && !peer.dialing.is_empty() && peer.dialing.len() < most && same_kind;
        if let Some(before) = std::mem::replace(&mut peer.stagger, wanted.then_some(when)) {
            self.staggered.remove(&(before, key));
        }
        if wanted {
            self.staggered.insert((when, key));
        }
    }

    /// Dials the best route that was not tried since the last pause.
    fn dial(&mut self, key: FeedId, out: &mut Effects) {
        self.set_place(key, None);
        let (now, timeout, attempt) = (self.now, self.settings.dial_timeout, AttemptId(self.next_attempt));
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some((address, kind, rank)) =
            peer.next_route().map(|route| (route.address.clone(), route.kind, route.rank()))
        else {
            return;
        };
        if let Some(route) = peer.routes.iter_mut().find(|route| route.address == address) {
            route.tried = true;
        }
        let first = peer.dialing.is_empty();
        peer.dialing.push(Attempt { id: attempt, route: address.clone(), since: now });
        peer.last_tried = Some(now);
        let races = peer.next_route().is_some_and(|next| next.rank() == rank);
        if first && peer.link.is_none() {
            peer.since = now;
            out.push(Effect::Changed { peer: key, change: Change::Connecting });
        }
        self.next_attempt += 1;
        self.dials += 1;
        self.settle_slot(key, first.then_some(kind));
        if first {
            self.set_patience(key, Some(now.saturating_add(self.settings.slots(kind).patience)));
        }
        if races {
            self.stagger(key, now.saturating_add(self.settings.stagger));
        }
        out.push(Effect::Dial { peer: key, route: address, attempt, timeout });
    }
}
