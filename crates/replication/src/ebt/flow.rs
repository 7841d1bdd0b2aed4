//! Messages, in and out.

use sbot_feed::FeedId;

use super::state::{Ebt, Event, Link, QUEUED, REFUSED, RESTART, RX, TOLD, TX, clamp, shared};
use super::want::may_be_told;

/// What to do with a message from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Check and store it; then tell [`Ebt::outcome`].
    Take,
    /// We have it.
    Known,
    /// The feed has been stopped with this peer, or isn't wanted any more: it was under way.
    Stopped,
    /// We never asked for it.
    Unasked,
}

/// What became of a message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// It was there already.
    Duplicate,
    /// Messages before it are missing; we have the feed up to `have`.
    Gap {
        /// The newest sequence that we have.
        have: u64,
    },
    /// It belongs to another branch of the feed.
    Fork,
    /// It is no valid message.
    Invalid {
        /// What is wrong with it.
        error: String,
    },
}

/// Messages to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Of which feed.
    pub feed: FeedId,
    /// The first one's sequence.
    pub from: u64,
    /// How many.
    pub count: usize,
}

impl Ebt {
    /// A peer sent a message that says it is this one. Nothing of it has been checked.
    pub fn accept(&mut self, link: Link, author: &FeedId, sequence: u64, now: u64) -> Accept {
        let Some(number) = self.numbers.get(author).copied() else { return Accept::Unasked };
        let Some(feed) = self.feeds.get(number as usize) else { return Accept::Unasked };
        let Some(Some(peer)) = self.peers.get_mut(link.slot as usize) else { return Accept::Unasked };
        if peer.generation != link.generation || !peer.ready {
            return Accept::Unasked;
        }
        let rep = peer.rep_mut(number);
        if !rep.is(TOLD) {
            return Accept::Unasked;
        }
        if rep.told == REFUSED || !shared(feed, rep) {
            return Accept::Stopped;
        }
        let sequence = clamp(sequence);
        rep.theirs = rep.theirs.max(sequence);
        rep.sent = rep.sent.max(sequence);
        if sequence <= feed.have {
            return Accept::Known;
        }
        peer.moved = peer.moved.max(now);
        peer.changed = true;
        Accept::Take
    }

    /// What became of a message that [`Ebt::accept`] took. Call [`Ebt::spread`] after a batch of them.
    pub fn outcome(&mut self, link: Link, author: &FeedId, sequence: u64, outcome: Outcome, now: u64) {
        let Some(number) = self.numbers.get(author).copied() else { return };
        match outcome {
            Outcome::Stored | Outcome::Duplicate => self.grow(number, clamp(sequence), now),
            Outcome::Gap { have } => {
                self.grow(number, clamp(have), now);
                self.ask_again(link, number);
            }
            Outcome::Fork => {
                let event = |feed, peer| Event::Forked { feed, peer, sequence };
                self.fail(link, number, now, event);
            }
            Outcome::Invalid { error } => {
                let event = |feed, peer| Event::Invalid { feed, peer, sequence, error };
                self.fail(link, number, now, event);
            }
        }
    }

    /// A feed got longer, by whatever way. Call [`Ebt::spread`] after a batch of these.
    pub fn appended(&mut self, feed: &FeedId, sequence: u64, now: u64) {
        if let Some(number) = self.numbers.get(feed).copied() {
            self.grow(number, clamp(sequence), now);
        }
    }

    /// We have a feed only up to `have` from now on: what follows is damaged. Who has it is asked for it again.
    pub fn lost(&mut self, feed: &FeedId, have: u64, now: u64) {
        let Some(number) = self.numbers.get(feed).copied() else { return };
        let Some(feed) = self.feeds.get_mut(number as usize) else { return };
        if feed.have <= clamp(have) {
            return;
        }
        feed.have = clamp(have);
        feed.repeats = 0;
        if !feed.wanted {
            return;
        }
        let own = feed.id == self.own;
        let have = feed.have;
        for slot in 0..self.peers.len() as u32 {
            let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { continue };
            let rep = peer.rep_mut(number);
            // What was sent will have arrived before a request for it does.
            if rep.theirs >= 0 {
                rep.theirs = rep.theirs.max(rep.sent);
            }
            // Who thinks that we have it wouldn't offer it.
            if rep.is(TOLD) && rep.told > have {
                peer.say(number);
                self.wake(slot);
            }
        }
        self.replace_source(number, now);
        if let Some(source) = self.feeds.get(number as usize).and_then(|feed| feed.source) {
            self.restart(source, number);
        }
        if own {
            (0..self.peers.len() as u32).for_each(|slot| self.own_claim(slot, now));
        }
    }

    /// Offers what has been appended to everyone who wants it, and asks for what follows whoever has it.
    pub fn spread(&mut self, now: u64) {
        let mut touched = std::mem::take(&mut self.touched);
        for number in touched.drain(..) {
            let Some(feed) = self.feeds.get_mut(number as usize) else { continue };
            feed.touched = false;
            let (have, source) = (feed.have, feed.source);
            let mut others_have_more = false;
            for slot in 0..self.peers.len() as u32 {
                let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { continue };
                let rep = peer.rep(number);
                if !peer.ready || !shared(feed, &rep) {
                    continue;
                }
                others_have_more |= rep.theirs > have && source != Some(slot);
                if rep.is(TX) && rep.sent < feed.have {
                    peer.enqueue(number);
                } else if may_be_told(feed, &rep) {
                    peer.say(number);
                } else {
                    continue;
                }
                if !peer.woken {
                    peer.woken = true;
                    self.woken.push(slot);
                }
            }
            if others_have_more && source.is_none_or(|source| self.theirs(source, number) <= have) {
                self.replace_source(number, now);
            }
        }
        // keeps its room for the next batch
        self.touched = touched;
    }

    /// The next messages for a connection, at most `most` of one feed, feeds taking turns. They count as sent.
    pub fn next_run(&mut self, link: Link, most: usize) -> Option<Run> {
        let peer =
            self.peers.get_mut(link.slot as usize)?.as_mut().filter(|peer| peer.generation == link.generation)?;
        while let Some(number) = peer.queue.pop_front() {
            let (Some(feed), Some(rep)) = (self.feeds.get(number as usize), peer.reps.get_mut(number as usize)) else {
                continue;
            };
            rep.set(QUEUED, false);
            if !rep.is(TX) || !shared(feed, rep) || rep.sent >= feed.have || rep.sent < 0 {
                continue;
            }
            let most = i32::try_from(most.max(1)).unwrap_or(i32::MAX);
            let from = u64::from(rep.sent.unsigned_abs()) + 1;
            let count = most.min(feed.have - rep.sent);
            rep.sent += count;
            let more = rep.sent < feed.have;
            if more {
                peer.enqueue(number);
            }
            return Some(Run { feed: feed.id, from, count: count.unsigned_abs() as usize });
        }
        None
    }

    /// A run couldn't be read from the log: the peer gets no more of this feed until it asks again.
    pub fn failed_run(&mut self, link: Link, feed: &FeedId) {
        let Some(number) = self.numbers.get(feed).copied() else { return };
        if let Some(peer) = self.peer_mut(link) {
            peer.rep_mut(number).set(TX, false);
        }
    }

    fn grow(&mut self, number: u32, sequence: i32, now: u64) {
        let Some(feed) = self.feeds.get_mut(number as usize) else { return };
        if sequence <= feed.have {
            return;
        }
        feed.have = sequence;
        feed.moved = feed.moved.max(now);
        feed.repeats = 0;
        if !feed.touched {
            feed.touched = true;
            self.touched.push(number);
        }
        if feed.id == self.own {
            self.own_grew(now);
        }
    }

    /// Messages came with some missing before them: the peer is asked to start over, once for each place.
    fn ask_again(&mut self, link: Link, number: u32) {
        let Some(feed) = self.feeds.get(number as usize) else { return };
        let Some(Some(peer)) = self.peers.get_mut(link.slot as usize) else { return };
        let generation = peer.generation;
        let rep = peer.rep_mut(number);
        if generation != link.generation || !rep.is(RX) || !shared(feed, rep) || rep.gap == feed.have {
            return;
        }
        rep.gap = feed.have;
        self.restart(link.slot, number);
    }

    /// Asks a feed's source to start over from where we are.
    pub(super) fn restart(&mut self, slot: u32, number: u32) {
        let Some(Some(peer)) = self.peers.get_mut(slot as usize) else { return };
        peer.rep_mut(number).set(RESTART, true);
        peer.say(number);
        self.wake(slot);
    }

    fn fail(&mut self, link: Link, number: u32, now: u64, event: impl FnOnce(FeedId, FeedId) -> Event) {
        let (Some(feed), Some(peer)) = (self.feeds.get(number as usize), self.peer(link)) else { return };
        if !shared(feed, &peer.rep(number)) {
            return;
        }
        let event = event(feed.id, peer.id);
        self.events.push(event);
        self.stop(link, number, now);
    }
}
