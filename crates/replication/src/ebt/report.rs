//! How far everything is: peers with a feed, replication as a whole, our own feed.

use sbot_feed::FeedId;

use super::state::{Ebt, Event, HEARD, REFUSED, RX, TOLD, TX, UNKNOWN, shared};

/// How far a peer is with a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    /// The newest sequence that it told us of or sent; −1 if it doesn't replicate the feed, `None` if it never said.
    pub sequence: Option<i64>,
    /// How the feed is exchanged; `None` if neither side has mentioned it on this connection.
    pub replicating: Option<Replicating>,
}

/// How a feed is exchanged on an open connection (`replicating` in epidemic-broadcast-trees).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicating {
    /// Whether the peer wants its messages.
    pub tx: bool,
    /// Whether the peer is asked for them.
    pub rx: bool,
    /// How far the peer is or will be by what we sent; −1 if it never said where it is.
    pub sent: i64,
    /// What we told last: how far we are, −1 that we don't replicate it.
    pub requested: i64,
}

/// How far replication is (epidemic-broadcast-trees `progress.js`): notes and messages, over all connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Always 0.
    pub start: u64,
    /// What has been exchanged.
    pub current: u64,
    /// What there is to exchange as far as is known; 0 without connections.
    pub target: u64,
}

/// How our own feed is, by what peers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnFeed {
    /// How far our log is.
    pub have: u64,
    /// How far a peer says it is, if further: nothing may be published until that has been taken in.
    pub ahead: Option<u64>,
}

/// A peer says it has more of our own feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    sequence: i32,
    /// Of the claim, or of the last message of ours that came since, in ms.
    since: u64,
    /// Not believed any more.
    dropped: bool,
}

/// Most peers whose claims about our own feed are kept.
const MAX_CLAIMS: usize = 1024;

impl Ebt {
    /// How connected peers are with a feed; those that never said or were told anything of it are left out.
    pub fn peer_status(&self, feed: &FeedId) -> Vec<(FeedId, PeerStatus)> {
        let status = |theirs, sent: i32, told: i32, flags: u16| {
            let said = |sequence: i32| i64::from(sequence.max(-1));
            let replicating = (flags & (HEARD | TOLD) != 0).then(|| Replicating {
                tx: flags & TX != 0,
                rx: flags & RX != 0,
                sent: said(sent),
                requested: said(told),
            });
            PeerStatus { sequence: (theirs != UNKNOWN).then(|| i64::from(theirs)), replicating }
        };
        let number = self.numbers.get(feed).copied();
        self.slots()
            .filter_map(|(_, peer)| {
                let found = match number {
                    Some(number) => {
                        let rep = peer.rep(number);
                        status(rep.theirs, rep.sent, rep.told, rep.flags)
                    }
                    None => {
                        let known = peer.elsewhere.get(feed)?;
                        status(known.theirs, REFUSED, known.told, known.flags & !TX)
                    }
                };
                (found.sequence.is_some() || found.replicating.is_some()).then_some((peer.id, found))
            })
            .collect()
    }

    /// How far replication is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        let span = |from: i32, to: i32| u64::from(to.saturating_sub(from).max(0).unsigned_abs());
        for (_, peer) in self.slots() {
            for (feed, rep) in self.feeds.iter().zip(&peer.reps) {
                if !rep.is(HEARD) && !rep.is(TOLD) || !shared(feed, rep) {
                    continue;
                }
                // one for each side's note
                progress.target += 2;
                progress.current += u64::from(rep.is(HEARD)) + u64::from(rep.is(TOLD));
                if rep.is(RX) && rep.told >= 0 && feed.have < rep.theirs {
                    progress.current += span(rep.told, feed.have);
                    progress.target += span(rep.told, rep.theirs);
                }
                if rep.is(TX) && rep.theirs >= 0 && rep.theirs < feed.have {
                    progress.current += span(rep.theirs, rep.sent.min(feed.have));
                    progress.target += span(rep.theirs, feed.have);
                }
            }
        }
        progress
    }

    /// Feeds to be replicated, in no order.
    pub fn wanted(&self) -> impl Iterator<Item = FeedId> + '_ {
        self.feeds.iter().filter(|feed| feed.wanted).map(|feed| feed.id)
    }

    /// How many wanted feeds some connected peer has more of.
    #[must_use]
    pub fn incomplete(&self) -> usize {
        let behind = |number: usize, have: i32| {
            self.slots().any(|(_, peer)| peer.reps.get(number).is_some_and(|rep| rep.theirs > have))
        };
        self.feeds.iter().enumerate().filter(|(number, feed)| feed.wanted && behind(*number, feed.have)).count()
    }

    /// How many messages of wanted feeds connected peers say they have beyond ours.
    #[must_use]
    pub fn behind(&self) -> u64 {
        let mut most = vec![0; self.feeds.len()];
        // Peer by peer, as they lie in memory.
        for (_, peer) in self.slots() {
            for (most, rep) in most.iter_mut().zip(&peer.reps) {
                *most = rep.theirs.max(*most);
            }
        }
        let wanted = self.feeds.iter().zip(most).filter(|(feed, _)| feed.wanted);
        wanted.map(|(feed, most)| u64::from(most.saturating_sub(feed.have).max(0).unsigned_abs())).sum()
    }

    /// How our own feed is.
    #[must_use]
    pub fn own_feed(&self) -> OwnFeed {
        let have = self.own_have();
        let claimed = self.claims.values().filter(|claim| !claim.dropped).map(|claim| claim.sequence).max();
        let ahead = claimed.filter(|claimed| *claimed > have).map(|claimed| u64::from(claimed.unsigned_abs()));
        OwnFeed { have: u64::from(have.unsigned_abs()), ahead }
    }

    fn own_have(&self) -> i32 {
        self.numbers.get(&self.own).and_then(|number| self.feeds.get(*number as usize)).map_or(0, |feed| feed.have)
    }

    /// Looks at what a peer says of our own feed.
    pub(super) fn own_claim(&mut self, slot: u32, now: u64) {
        let have = self.own_have();
        let Some(number) = self.numbers.get(&self.own).copied() else { return };
        let Some(Some(peer)) = self.peers.get(slot as usize) else { return };
        let (id, sequence) = (peer.id, peer.rep(number).theirs);
        let known = self.claims.get(&id).map(|claim| claim.sequence);
        if sequence <= have || known.is_some_and(|known| known >= sequence) {
            return;
        }
        if let Some(claim) = self.claims.get_mut(&id) {
            // who has been found to claim idly isn't believed on claiming more
            claim.sequence = sequence;
        } else if self.claims.len() < MAX_CLAIMS {
            self.claims.insert(id, Claim { sequence, since: now, dropped: false });
            let (claimed, have) = (u64::from(sequence.unsigned_abs()), u64::from(have.unsigned_abs()));
            self.events.push(Event::OwnFeedAhead { peer: id, claimed, have });
        }
    }

    /// Our own feed got longer.
    pub(super) fn own_grew(&mut self, now: u64) {
        if self.claims.is_empty() {
            return;
        }
        let have = self.own_have();
        let before = self.own_feed_behind();
        self.claims.retain(|_, claim| claim.sequence > have);
        for claim in self.claims.values_mut() {
            claim.since = claim.since.max(now);
        }
        if before && !self.own_feed_behind() {
            self.events.push(Event::OwnFeedTakenIn { have: u64::from(have.unsigned_abs()) });
        }
    }

    fn own_feed_behind(&self) -> bool {
        self.claims.values().any(|claim| !claim.dropped)
    }

    pub(super) fn expire_claims(&mut self, now: u64) {
        for (peer, claim) in &mut self.claims {
            if !claim.dropped && now.saturating_sub(claim.since) >= self.settings.own_claim {
                claim.dropped = true;
                let claimed = u64::from(claim.sequence.unsigned_abs());
                self.events.push(Event::OwnClaimDropped { peer: *peer, claimed });
            }
        }
    }
}
