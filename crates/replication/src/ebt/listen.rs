//! What a peer's notes mean.

use sbot_feed::FeedId;

use super::notes::{Note, Notes};
use super::state::{DIRTY, Ebt, Elsewhere, HEARD, Link, MAX_ELSEWHERE, REFUSED, TOLD, TX, UNKNOWN, shared};

impl Ebt {
    /// A peer sent notes.
    pub fn heard(&mut self, link: Link, notes: &Notes, now: u64) {
        let Some(peer) = self.peer_mut(link) else { return };
        peer.changed = true;
        let first = !peer.ready;
        peer.ready = true;
        for (feed, note) in &notes.notes {
            match self.numbers.get(feed) {
                Some(number) => self.heard_of(link, *number, *note, now),
                None => self.heard_of_elsewhere(link, *feed, *note),
            }
        }
        if first {
            self.greet(link.slot, now);
        }
        self.own_claim(link.slot, now);
        self.wake(link.slot);
    }

    fn heard_of(&mut self, link: Link, number: u32, note: Note, now: u64) {
        let Some(feed) = self.feeds.get(number as usize) else { return };
        let (have, source) = (feed.have, feed.source);
        let Some(Some(peer)) = self.peers.get_mut(link.slot as usize) else { return };
        let rep = peer.rep_mut(number);
        rep.flags |= HEARD;
        let Note::At { sequence, send } = note else {
            rep.theirs = REFUSED;
            rep.flags &= !TX;
            if source == Some(link.slot) {
                self.replace_source(number, now);
            }
            return;
        };
        let sequence = sequence.cast_signed(); // below 2^30
        let stuck = rep.asked == sequence;
        if !send || !rep.is(TX) || sequence > rep.sent || stuck {
            rep.sent = sequence;
        }
        rep.asked = if send { sequence } else { UNKNOWN };
        rep.set(TX, send);
        rep.theirs = sequence;
        let rep = *rep;
        if !shared(feed, &rep) {
            if !rep.is(TOLD) || rep.told != REFUSED {
                peer.say(number);
            }
            return;
        }
        if !rep.is(TOLD) {
            peer.say(number);
        }
        if have > sequence {
            if send {
                peer.enqueue(number);
            } else if rep.told != have {
                peer.say(number);
            }
        }
        match source {
            None => self.set_source(number, Some(link.slot), now),
            // one that still has something to send is left to it
            Some(other) if other != link.slot && sequence > have && self.theirs(other, number) <= have => {
                self.give_time(link.slot, now);
                self.set_source(number, Some(link.slot), now);
            }
            Some(_) => {}
        }
    }

    pub(super) fn theirs(&self, slot: u32, number: u32) -> i32 {
        self.peers.get(slot as usize).and_then(Option::as_ref).map_or(UNKNOWN, |peer| peer.rep(number).theirs)
    }

    /// Of a feed that we don't replicate: the peer is told so, once a connection.
    fn heard_of_elsewhere(&mut self, link: Link, feed: FeedId, note: Note) {
        let Some(peer) = self.peer_mut(link) else { return };
        if peer.elsewhere.len() >= MAX_ELSEWHERE && !peer.elsewhere.contains_key(&feed) {
            return;
        }
        let state = peer.elsewhere.entry(feed).or_insert(Elsewhere { theirs: UNKNOWN, told: UNKNOWN, flags: 0 });
        state.flags |= HEARD;
        match note {
            Note::Refused => {
                state.theirs = REFUSED;
                state.flags &= !TX;
            }
            Note::At { sequence, send } => {
                state.theirs = sequence.cast_signed(); // below 2^30
                state.flags = if send { state.flags | TX } else { state.flags & !TX };
                if state.flags & (TOLD | DIRTY) == 0 {
                    state.flags |= DIRTY;
                    peer.elsewhere_dirty.push(feed);
                }
            }
        }
    }
}
