//! What time brings: ends of what is too old, and second questions.

use sbot_feed::{BlobId, FeedId};

use crate::effect::Effect;
use crate::exchange::Exchange;
use crate::settings::{OTHERS_AGE, OWN_AGE, PUSH_AGE};

impl Exchange {
    /// Time has passed: what is too old ends, and peers are asked again for what they couldn't send.
    pub fn tick(&mut self, now: u64) -> Vec<Effect> {
        let old = |since: u64, age: u64| now.saturating_sub(since) > age;
        let mine: Vec<BlobId> = self
            .wants
            .iter()
            .filter(|(_, want)| want.own.is_some_and(|own| old(own, OWN_AGE)))
            .map(|(id, _)| *id)
            .collect();
        mine.iter().for_each(|id| self.give_up_own(id));
        let theirs: Vec<(BlobId, Vec<FeedId>)> = self
            .wants
            .iter()
            .filter(|(_, want)| !want.askers.is_empty() && old(want.asked, OTHERS_AGE))
            .map(|(id, want)| (*id, want.askers.keys().copied().collect()))
            .collect();
        for (id, askers) in theirs {
            for peer in askers {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.wants.remove(&id);
                }
                self.withdraw(&peer, &id);
            }
        }
        let pushes = self.pushes.len();
        self.pushes.retain(|_, push| !old(push.since, PUSH_AGE));
        if self.pushes.len() != pushes {
            self.effects.push(Effect::Save);
        }
        self.ask_again(now);
        self.forget_old_partials(now);
        self.fetch_more(now);
        self.done()
    }

    fn ask_again(&mut self, now: u64) {
        for (peer, link) in &mut self.links {
            for id in link.due(now) {
                let Some(want) = self.wants.get(&id) else { continue };
                let may = self.gate.may_be_asked(peer, &id, want.own.is_some());
                if may && want.distance().is_some_and(|distance| link.tell_want(id, distance)) {
                    self.effects.push(Effect::Tell(*peer));
                }
            }
        }
    }
}
