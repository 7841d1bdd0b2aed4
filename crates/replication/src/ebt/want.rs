//! Which feeds are wanted, by us and by whom; whom a feed is asked of.

use sbot_feed::FeedId;

use super::state::{
    BLOCKED, DIRTY, Ebt, Feed, HEARD, Link, REFUSED, RX, Rep, STOPPED, TOLD, TX, UNKNOWN, clamp, shared,
};

impl Ebt {
    /// A feed is to be replicated; we have `have` messages of it.
    pub fn want(&mut self, id: FeedId, have: u64) {
        let number = self.number(id);
        let Some(feed) = self.feeds.get_mut(number as usize) else { return };
        feed.have = feed.have.max(clamp(have));
        if feed.wanted {
            return;
        }
        feed.wanted = true;
        // The peer that has most of it is asked, else the first that doesn't refuse it.
        self.replace_source(number, 0);
        for slot in 0..self.peers.len() as u32 {
            self.mention(slot, number, 0);
        }
    }

    /// A feed is not to be replicated any more. Our own always is.
    pub fn unwant(&mut self, id: &FeedId) {
        let Some(number) = self.numbers.get(id).copied().filter(|_| *id != self.own) else { return };
        let Some(feed) = self.feeds.get_mut(number as usize).filter(|feed| feed.wanted) else { return };
        feed.wanted = false;
        feed.source = None;
        for slot in 0..self.peers.len() as u32 {
            let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { continue };
            peer.rep_mut(number).set(RX, false);
            self.refuse(slot, number);
        }
    }

    /// Whether a feed is to be replicated.
    #[must_use]
    pub fn wants(&self, id: &FeedId) -> bool {
        self.numbers.get(id).and_then(|number| self.feeds.get(*number as usize)).is_some_and(|feed| feed.wanted)
    }

    /// `author` blocks `target`, or does no more: its feed isn't exchanged with that peer.
    pub fn block(&mut self, author: FeedId, target: FeedId, blocking: bool, now: u64) {
        let authors = self.blocks.entry(target).or_default();
        let changed = if blocking { authors.insert(author) } else { authors.remove(&author) };
        if authors.is_empty() {
            self.blocks.remove(&target);
        }
        let (Some(number), Some(link)) = (self.numbers.get(&author).copied(), self.link_of(&target)) else { return };
        let Some(peer) = self.peer_mut(link).filter(|_| changed) else { return };
        peer.rep_mut(number).set(BLOCKED, blocking);
        if blocking {
            self.lose_source(link, number, now);
            self.refuse(link.slot, number);
        } else {
            self.mention(link.slot, number, now);
        }
    }

    /// Stops a feed with one peer for the rest of the connection.
    pub(super) fn stop(&mut self, link: Link, number: u32, now: u64) {
        let Some(peer) = self.peer_mut(link) else { return };
        peer.rep_mut(number).set(STOPPED, true);
        self.lose_source(link, number, now);
        self.refuse(link.slot, number);
    }

    fn lose_source(&mut self, link: Link, number: u32, now: u64) {
        if self.feeds.get(number as usize).is_some_and(|feed| feed.source == Some(link.slot)) {
            self.replace_source(number, now);
        }
    }

    /// The number of a feed that is or was wanted.
    fn number(&mut self, id: FeedId) -> u32 {
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        // wants come from the graph and from clients: there are never 2^32
        let number = self.feeds.len() as u32;
        self.numbers.insert(id, number);
        self.feeds.push(Feed { id, have: 0, wanted: false, source: None, moved: 0, repeats: 0, touched: false });
        for peer in self.peers.iter_mut().flatten() {
            let blocked = self.blocks.get(&peer.id).is_some_and(|authors| authors.contains(&id));
            let known = peer.elsewhere.remove(&id);
            let rep = peer.rep_mut(number);
            rep.set(BLOCKED, blocked);
            if let Some(known) = known {
                (rep.theirs, rep.told) = (known.theirs, known.told);
                rep.sent = known.theirs;
                // a refusal that hasn't gone out yet is overtaken; the leftover in the list of notes finds nothing
                rep.flags |= known.flags & !DIRTY;
            }
        }
        number
    }

    /// What a peer is told first: all that has changed by what both last said.
    pub(super) fn greet(&mut self, slot: u32, now: u64) {
        let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { return };
        peer.ready = true;
        peer.greet = true;
        for number in 0..self.feeds.len() as u32 {
            self.mention(slot, number, now);
        }
        self.wake(slot);
    }

    /// Tells a peer of a feed unless both know all that there is to say.
    pub(super) fn mention(&mut self, slot: u32, number: u32, now: u64) {
        let Some(feed) = self.feeds.get(number as usize) else { return };
        let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { return };
        let rep = peer.rep(number);
        if !peer.ready || !shared(feed, &rep) || rep.is(DIRTY) {
            return;
        }
        let told_so = rep.told == feed.have;
        if told_so && (rep.is(TOLD) || rep.theirs == REFUSED || (rep.theirs == feed.have && feed.have > 0)) {
            return;
        }
        if feed.source.is_none() && rep.theirs != REFUSED {
            self.set_source(number, Some(slot), now);
        } else {
            peer.say(number);
            self.wake(slot);
        }
    }

    /// Takes back what a peer was told of a feed that isn't shared any more.
    fn refuse(&mut self, slot: u32, number: u32) {
        let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { return };
        let rep = peer.rep(number);
        if peer.ready && rep.told != REFUSED && (rep.is(TOLD) || rep.is(HEARD)) {
            peer.say(number);
            self.wake(slot);
        }
    }

    /// Makes a peer the one that a feed is asked of, and tells it and the one before.
    pub(super) fn set_source(&mut self, number: u32, new: Option<u32>, now: u64) {
        let Some(feed) = self.feeds.get_mut(number as usize) else { return };
        let old = std::mem::replace(&mut feed.source, new);
        feed.moved = now;
        if old == new {
            return;
        }
        for (slot, on) in [(old, false), (new, true)] {
            let Some(slot) = slot else { continue };
            let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { continue };
            let rep = peer.rep_mut(number);
            rep.set(RX, on);
            // one that was never asked needn't be told to stop
            if on || rep.is(TOLD) || rep.is(DIRTY) {
                peer.say(number);
                self.wake(slot);
            }
        }
    }

    /// Asks for a feed whoever has most of it, or nobody if nobody has more than we.
    pub(super) fn replace_source(&mut self, number: u32, now: u64) {
        let Some(feed) = self.feeds.get(number as usize) else { return };
        let best = self
            .slots()
            .map(|(slot, peer)| (slot, peer, peer.rep(number)))
            .filter(|(_, peer, rep)| peer.ready && shared(feed, rep) && rep.theirs > feed.have)
            .max_by_key(|(_, _, rep)| rep.theirs)
            .map(|(slot, peer, _)| (slot, peer.moved));
        if let Some((slot, _)) = best {
            self.give_time(slot, now);
        }
        self.set_source(number, best.map(|(slot, _)| slot), now);
    }

    /// A peer that has only now been asked isn't stalled yet.
    pub(super) fn give_time(&mut self, slot: u32, now: u64) {
        if let Some(Some(peer)) = self.peers.get_mut(slot as usize) {
            peer.moved = peer.moved.max(now);
        }
    }
}

/// Whether the peer that owns `rep` may be told that we got further than it.
pub(super) fn may_be_told(feed: &Feed, rep: &Rep) -> bool {
    let refused = rep.theirs == REFUSED && rep.is(HEARD);
    let about_to_answer = rep.is(TOLD) && !rep.is(HEARD) && rep.theirs == UNKNOWN;
    !rep.is(TX) && !refused && !about_to_answer && rep.theirs < feed.have && rep.told != feed.have
}
