//! Whom to dial now, and how long to wait after a failure.

use sbot_feed::FeedId;

use crate::action::{Change, Effect};
use crate::state::{Attempt, AttemptId, Millis, State};

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

    /// The pause after so many failures in a row: it doubles with each, and is lengthened by up to its half, so that
    /// a longer row always means a longer pause until the limit.
    pub(crate) fn pause(&mut self, failures: u32) -> Millis {
        let doubled = 1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
        let pause = self.settings.first_pause.saturating_mul(doubled).min(self.settings.longest_pause / 3 * 2);
        pause + self.within(pause / 2)
    }

    /// Sets when a peer is dialed next.
    pub(crate) fn set_next_try(&mut self, key: FeedId, when: Option<Millis>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Some(before) = std::mem::replace(&mut peer.next_try, when) {
            self.due.remove(&(before, key));
        }
        if let Some(when) = when {
            self.due.insert((when, key));
        }
    }

    /// Has a peer dialed at `when`, if it is one to be dialed at all; takes it off the list if it isn't.
    pub(crate) fn plan(&mut self, key: FeedId, when: Millis) {
        let dialable = self.peers.get(&key).is_some_and(|peer| {
            (peer.is_kept_connected() || peer.asked)
                && !peer.banned
                && !peer.routes.is_empty()
                && peer.link.is_none()
                && peer.dialing.is_none()
        });
        self.set_next_try(key, (dialable && key != self.own).then_some(when));
    }

    /// Dials those whose time has come, as far as there is room, and asks to be woken for the next.
    pub(crate) fn schedule(&mut self, effects: &mut Vec<Effect>) {
        let free = self.settings.most_dials.saturating_sub(self.dials);
        if free > 0 {
            let asked = |key: &FeedId| self.peers.get(key).is_some_and(|peer| peer.asked);
            let due = self.due.iter().take_while(|(when, _)| *when <= self.now);
            let mut candidates: Vec<_> = due
                .map(|(when, key)| (!asked(key), *when, *key))
                .filter(|(unasked, ..)| self.running || !unasked)
                .collect();
            candidates.sort_unstable();
            for (unasked, _, key) in candidates.into_iter().take(free) {
                if unasked && self.outbound + self.dials >= self.settings.most_outbound {
                    break;
                }
                self.dial(key, effects);
            }
        }
        let wakes = |(_, key): &&(Millis, FeedId)| self.running || self.peers.get(key).is_some_and(|peer| peer.asked);
        let after = (self.now.saturating_add(1), FeedId([0; 32]));
        let next = self.due.range(after..).find(wakes).map(|(when, _)| *when);
        if let Some(when) = next.filter(|when| self.wake != Some(*when)) {
            self.wake = Some(when);
            effects.push(Effect::WakeMeAt(when));
        }
    }

    /// Dials the best route that was not tried since the last pause.
    fn dial(&mut self, key: FeedId, effects: &mut Vec<Effect>) {
        self.set_next_try(key, None);
        let (now, timeout, attempt) = (self.now, self.settings.dial_timeout, AttemptId(self.next_attempt));
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.routes.iter().all(|route| route.tried) {
            peer.routes.iter_mut().for_each(|route| route.tried = false);
        }
        // The one that worked last, then the one that failed least, then the one that has been known longest.
        let best = peer
            .routes
            .iter_mut()
            .filter(|route| !route.tried)
            .min_by_key(|route| (std::cmp::Reverse(route.last_success), route.failures));
        let Some(route) = best else { return };
        route.tried = true;
        let address = route.address.clone();
        peer.dialing = Some(Attempt { id: attempt, route: address.clone(), since: now });
        peer.since = now;
        self.next_attempt += 1;
        self.dials += 1;
        effects.push(Effect::Changed { peer: key, change: Change::Connecting });
        effects.push(Effect::Dial { peer: key, route: address, attempt, timeout });
    }
}
