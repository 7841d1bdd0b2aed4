//! What this node itself looks for, pushes and has.

use sbot_feed::{BlobId, FeedId};

use crate::effect::{Effect, Found};
use crate::exchange::{Exchange, TooMany};
use crate::settings::{MAX_PUSHES, MAX_WANTS};
use crate::want::{OWN, Want};

impl Exchange {
    /// We look for a blob that isn't here.
    ///
    /// # Errors
    /// [`TooMany`] beyond [`MAX_WANTS`].
    pub fn want(&mut self, id: BlobId, now: u64) -> Result<Vec<Effect>, TooMany> {
        self.want_at_most(id, None, now)
    }

    /// We look for a blob that isn't here, and take it only if it has at most so many bytes; with no limit, as many as any
    /// blob may have. Of several limits the widest counts.
    ///
    /// # Errors
    /// [`TooMany`] beyond [`MAX_WANTS`].
    pub fn want_at_most(&mut self, id: BlobId, limit: Option<u64>, now: u64) -> Result<Vec<Effect>, TooMany> {
        let known = self.wants.get(&id);
        let is_own = known.is_some_and(|want| want.own.is_some());
        if !is_own && self.own >= MAX_WANTS {
            return Err(TooMany { limit: MAX_WANTS, what: "looked for" });
        }
        let mut before = known.and_then(Want::distance);
        let narrower = known.filter(|_| is_own).and_then(|want| want.own_limit);
        let limit = if is_own { limit.and_then(|limit| narrower.map(|known| known.max(limit))) } else { limit };
        let want = self.wants.entry(id).or_default();
        (want.own, want.own_limit) = (Some(now), limit);
        if narrower.is_some() && limit != narrower {
            // whoever had it, and was passed over because it was too large, has to say so again
            self.links.values_mut().for_each(|link| link.ask_anew(&id));
            before = None;
        }
        if !is_own {
            self.own += 1;
            self.effects.push(Effect::Save);
        }
        self.became_nearer(&id, before, now);
        self.fetch_more(now);
        Ok(self.done())
    }

    /// Whether there is no room for what only others want. What we want and have ourselves is not affected.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// We don't look for a blob any more.
    pub fn unwant(&mut self, id: &BlobId, now: u64) -> Vec<Effect> {
        self.give_up_own(id);
        self.fetch_more(now);
        self.done()
    }

    pub(crate) fn give_up_own(&mut self, id: &BlobId) {
        let Some(want) = self.wants.get_mut(id) else { return };
        if want.own.take().is_some() {
            self.own -= 1;
            self.effects.extend([Effect::Done(*id, Found::Expired), Effect::Save]);
        }
        if want.distance().is_none() {
            self.drop_want(id);
        }
    }

    /// Peers are to take a blob: it is told as a want, so that they come for it out of sympathy.
    ///
    /// # Errors
    /// [`TooMany`] beyond [`MAX_PUSHES`].
    pub fn push(&mut self, id: BlobId, now: u64) -> Result<Vec<Effect>, TooMany> {
        if self.pushes.len() >= MAX_PUSHES && !self.pushes.contains_key(&id) {
            return Err(TooMany { limit: MAX_PUSHES, what: "waiting to be spread" });
        }
        self.pushes.entry(id).or_default().since = now;
        for (peer, link) in &mut self.links {
            if self.gate.may_be_asked(peer, &id, true) && link.tell_want(id, OWN) {
                self.effects.push(Effect::Tell(*peer));
            }
        }
        self.effects.push(Effect::Save);
        Ok(self.done())
    }

    /// A blob is here, from wherever. Whoever waits is told, and so are all peers that may hear of it.
    pub fn added(&mut self, id: &BlobId, size: u64, now: u64) -> Vec<Effect> {
        self.has_come(id, size);
        self.fetch_more(now);
        self.done()
    }

    pub(crate) fn has_come(&mut self, id: &BlobId, size: u64) {
        self.abandon_fetch(id);
        if let Some(want) = self.wants.remove(id) {
            if want.own.is_some() {
                self.own -= 1;
                self.effects.push(Effect::Save);
            }
            for asker in want.askers.keys() {
                if let Some(link) = self.links.get_mut(asker) {
                    link.wants.remove(id);
                }
            }
        }
        self.effects.push(Effect::Done(*id, Found::Here));
        let listeners: Vec<FeedId> =
            self.links.keys().copied().filter(|peer| self.may_hear_of(peer, id, size)).collect();
        self.links.values_mut().for_each(|link| link.settle(id));
        for peer in listeners {
            if self.links.get_mut(&peer).is_some_and(|link| link.tell_size(*id, size)) {
                self.effects.push(Effect::Tell(peer));
            }
        }
    }

    /// A blob was deleted here: it can't be spread any more.
    pub fn removed(&mut self, id: &BlobId) -> Vec<Effect> {
        if self.pushes.remove(id).is_some() {
            self.effects.push(Effect::Save);
        }
        self.done()
    }
}
