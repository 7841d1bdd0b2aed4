//! The want/has exchange of one node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sbot_feed::{BlobId, FeedId};

use crate::effect::Effect;
use crate::fetching::Fetches;
use crate::gate::Gate;
use crate::is_empty_blob;
use crate::link::Link;
use crate::note::Note;
use crate::saved::Saved;
use crate::settings::{MAX_PUSHES, MAX_WANTS, MAX_WANTS_OF_OTHERS, MAX_WANTS_OF_PEER, Settings};
use crate::want::{OWN, Want};

/// Too much is looked for or pushed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} blobs are {what} already; wait until some have come")]
pub struct TooMany {
    pub(crate) limit: usize,
    pub(crate) what: &'static str,
}

/// How much of everything there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blobs that we look for.
    pub wants: usize,
    /// Blobs that only peers want.
    pub wants_of_others: usize,
    /// Blobs that wait to be spread.
    pub pushes: usize,
    /// Transfers under way.
    pub fetches: usize,
    /// Connected peers.
    pub peers: usize,
    /// Wants of peers that found no place.
    pub refused: u64,
}

/// A blob to be spread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Push {
    pub(crate) since: u64,
    /// Peers that have it by now.
    pub(crate) taken: BTreeSet<FeedId>,
}

/// Who looks for which blob, who has it, and what is fetched from whom.
///
/// Times are milliseconds since any moment, the same for all calls. Each call answers with what is to be done.
pub struct Exchange {
    pub(crate) settings: Settings,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) links: BTreeMap<FeedId, Link>,
    pub(crate) wants: BTreeMap<BlobId, Want>,
    pub(crate) pushes: BTreeMap<BlobId, Push>,
    pub(crate) fetches: Fetches,
    /// Of `wants`, those that are our own.
    pub(crate) own: usize,
    numbers: u64,
    refused: u64,
    /// Nothing is fetched for others: there is no room.
    pub(crate) full: bool,
    pub(crate) effects: Vec<Effect>,
}

impl Exchange {
    /// With nobody connected, and the wants and pushes that were saved.
    #[must_use]
    pub fn new(settings: Settings, gate: Arc<dyn Gate>, saved: Saved) -> Self {
        let own = |(id, since)| (id, Want { own: Some(since), ..Want::default() });
        let wants: BTreeMap<_, _> = saved.wants.into_iter().take(MAX_WANTS).map(own).collect();
        let push = |(id, since)| (id, Push { since, taken: BTreeSet::new() });
        let pushes = saved.pushes.into_iter().take(MAX_PUSHES).map(push).collect();
        Self {
            settings,
            gate,
            links: BTreeMap::new(),
            own: wants.len(),
            wants,
            pushes,
            fetches: Fetches::default(),
            numbers: 0,
            refused: 0,
            full: false,
            effects: Vec::new(),
        }
    }

    pub(crate) fn done(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// A peer has connected. What it says counts from now on, and it can be fetched from; it is told nothing before it
    /// [listens](Exchange::listens). Whoever connects again is first disconnected.
    pub fn connected(&mut self, peer: FeedId, now: u64) -> Vec<Effect> {
        if self.links.contains_key(&peer) {
            self.leave(&peer, now);
        }
        self.numbers += 1;
        self.links.insert(peer, Link::new(self.numbers));
        self.done()
    }

    /// A peer reads what we have to say, from the beginning: all wants and pushes.
    pub fn listens(&mut self, peer: &FeedId) -> Vec<Effect> {
        let Some(link) = self.links.get_mut(peer) else { return Vec::new() };
        link.listen();
        for (id, want) in &self.wants {
            if let Some(distance) = want.distance()
                && self.gate.may_be_asked(peer, id, want.own.is_some())
            {
                link.tell_want(*id, distance);
            }
        }
        for id in self.pushes.keys() {
            if self.gate.may_be_asked(peer, id, true) {
                link.tell_want(*id, OWN);
            }
        }
        self.effects.push(Effect::Tell(*peer));
        self.done()
    }

    /// A peer no longer reads what we say, and is still connected.
    pub fn is_deaf(&mut self, peer: &FeedId) {
        if let Some(link) = self.links.get_mut(peer) {
            link.listen();
            link.listens = false;
        }
    }

    /// A peer has gone. What only it wanted is wanted no more.
    pub fn disconnected(&mut self, peer: &FeedId, now: u64) -> Vec<Effect> {
        self.leave(peer, now);
        self.done()
    }

    fn leave(&mut self, peer: &FeedId, now: u64) {
        let Some(link) = self.links.remove(peer) else { return };
        for id in link.wants {
            self.withdraw(peer, &id);
        }
        self.fetch_more(now);
    }

    /// A peer doesn't want a blob any more.
    pub(crate) fn withdraw(&mut self, peer: &FeedId, id: &BlobId) {
        let Some(want) = self.wants.get_mut(id) else { return };
        want.askers.remove(peer);
        if want.distance().is_none() {
            self.drop_want(id);
        }
    }

    /// Nobody wants a blob any more.
    pub(crate) fn drop_want(&mut self, id: &BlobId) {
        let Some(want) = self.wants.remove(id) else { return };
        for asker in want.askers.keys() {
            if let Some(link) = self.links.get_mut(asker) {
                link.wants.remove(id);
            }
        }
        let (wants, pushes) = (&self.wants, &self.pushes);
        for link in self.links.values_mut() {
            link.forget(id);
            if !pushes.contains_key(id) {
                link.untell(id, |id| wants.contains_key(id) || pushes.contains_key(id), MAX_TOLD);
            }
        }
        self.abandon_fetch(id);
    }

    /// Takes what a peer says. `here` tells the size of a blob that is stored, now.
    pub fn heard(
        &mut self,
        peer: &FeedId,
        notes: &[(BlobId, Note)],
        now: u64,
        mut here: impl FnMut(&BlobId) -> Option<u64>,
    ) -> Vec<Effect> {
        let mut answers = false;
        for (id, note) in notes {
            if !self.links.contains_key(peer) || is_empty_blob(id) {
                continue;
            }
            match note {
                Note::Want(distance) => answers |= self.heard_want(peer, *id, *distance, now, &mut here),
                Note::Has(size) => self.heard_has(peer, *id, *size, now),
            }
        }
        if answers {
            self.effects.push(Effect::Tell(*peer));
        }
        self.fetch_more(now);
        self.done()
    }

    /// Whether a peer may be given a blob of `size` bytes and told of it.
    #[must_use]
    pub fn may_have(&self, peer: &FeedId, id: &BlobId, size: u64) -> bool {
        self.gate.may_have(peer, id, size)
    }

    /// Whether a peer is told that a blob of `size` bytes is here: a stingy node speaks of its pushes alone.
    #[must_use]
    pub fn may_hear_of(&self, peer: &FeedId, id: &BlobId, size: u64) -> bool {
        (!self.settings.stingy || self.pushes.contains_key(id)) && self.gate.may_have(peer, id, size)
    }

    /// True if the peer is to be told that it is here.
    fn heard_want(
        &mut self,
        peer: &FeedId,
        id: BlobId,
        distance: u32,
        now: u64,
        here: &mut impl FnMut(&BlobId) -> Option<u64>,
    ) -> bool {
        if self.settings.stingy && !self.pushes.contains_key(&id) {
            return false;
        }
        // What is here and not for this peer is looked for as if it weren't: others can't tell either.
        if let Some(size) = here(&id).filter(|size| self.may_hear_of(peer, &id, *size)) {
            return self.links.get_mut(peer).is_some_and(|link| link.tell_size(id, size));
        }
        let ours = distance.saturating_add(1);
        if self.full || ours > u32::from(self.settings.sympathy) || !self.gate.may_pass_on(peer, &id, distance) {
            return false;
        }
        let Some(link) = self.links.get_mut(peer) else { return false };
        let others = self.wants.len() - self.own;
        let is_new = !self.wants.contains_key(&id);
        let no_place = link.wants.len() >= MAX_WANTS_OF_PEER && !link.wants.contains(&id);
        if no_place || is_new && others >= MAX_WANTS_OF_OTHERS {
            self.refused += 1;
            return false;
        }
        link.wants.insert(id);
        let want = self.wants.entry(id).or_default();
        let before = want.distance();
        if want.askers.is_empty() {
            want.asked = now;
        }
        let told = want.askers.entry(*peer).or_insert(distance);
        *told = distance.min(*told);
        self.became_nearer(&id, before, now);
        false
    }

    /// Tells everybody of a want that is new, or nearer than before.
    pub(crate) fn became_nearer(&mut self, id: &BlobId, before: Option<u32>, now: u64) {
        let Some(want) = self.wants.get(id) else { return };
        let (Some(distance), own) = (want.distance(), want.own.is_some()) else { return };
        if before.is_some_and(|before| before <= distance) {
            return;
        }
        let max = want.limit(self.settings.max);
        for (peer, link) in &mut self.links {
            if self.gate.may_be_asked(peer, id, own) && link.tell_want(*id, distance) {
                self.effects.push(Effect::Tell(*peer));
            }
            if before.is_none()
                && let Some(size) = link.recall(id)
                && size.is_none_or(|size| size <= max)
            {
                link.note_have(*id, size, own, now);
            }
        }
        self.fetches.look_at_all(&self.links);
    }

    fn heard_has(&mut self, peer: &FeedId, id: BlobId, size: Option<u64>, now: u64) {
        if let Some(push) = self.pushes.get_mut(&id) {
            push.taken.insert(*peer);
            if push.taken.len() >= usize::from(self.settings.pushy) {
                self.pushes.remove(&id);
                self.effects.extend([Effect::Pushed(id), Effect::Save]);
            }
        }
        let limit = self.wants.get(&id).map_or(self.settings.max, |want| want.limit(self.settings.max));
        if size.is_some_and(|size| size > limit) {
            return;
        }
        let own = self.wants.get(&id).map(|want| want.own.is_some());
        let Some(link) = self.links.get_mut(peer) else { return };
        match own {
            Some(own) => {
                if link.note_have(id, size, own, now) {
                    self.fetches.look_at(*peer);
                }
            }
            None => link.note_recent(id, size),
        }
    }

    /// At most `most` notes for a peer that listens: negative numbers are wants, positive ones sizes. Those are told then.
    pub fn notes_for(&mut self, peer: &FeedId, most: usize) -> BTreeMap<BlobId, i64> {
        self.links.get_mut(peer).map(|link| link.take_pending(most)).unwrap_or_default()
    }

    /// Whether there are notes for a peer.
    #[must_use]
    pub fn has_notes_for(&self, peer: &FeedId) -> bool {
        self.links.get(peer).is_some_and(Link::has_pending)
    }

    /// What we look for and push, as notes.
    #[must_use]
    pub fn own_notes(&self) -> BTreeMap<BlobId, i64> {
        let own = self.wants.iter().filter(|(_, want)| want.own.is_some()).map(|(id, _)| id);
        own.chain(self.pushes.keys()).map(|id| (*id, -i64::from(OWN))).collect()
    }

    /// Whether we look for a blob.
    #[must_use]
    pub fn is_wanted(&self, id: &BlobId) -> bool {
        self.wants.get(id).is_some_and(|want| want.own.is_some())
    }

    /// Whether a blob waits to be spread.
    #[must_use]
    pub fn is_pushed(&self, id: &BlobId) -> bool {
        self.pushes.contains_key(id)
    }

    /// What is to be remembered over a restart.
    #[must_use]
    pub fn saved(&self) -> Saved {
        let wants = self.wants.iter().filter_map(|(id, want)| Some((*id, want.own?))).collect();
        Saved { wants, pushes: self.pushes.iter().map(|(id, push)| (*id, push.since)).collect() }
    }

    /// How much of everything there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            wants: self.own,
            wants_of_others: self.wants.len() - self.own,
            pushes: self.pushes.len(),
            fetches: self.fetches.len(),
            peers: self.links.len(),
            refused: self.refused,
        }
    }
}

/// Wants that a peer is remembered to have been told, beyond which those that are no more are forgotten.
const MAX_TOLD: usize = MAX_WANTS + MAX_WANTS_OF_OTHERS + MAX_PUSHES;
