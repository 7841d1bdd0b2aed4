//! What is kept of feeds and connections, and how connections begin and end.

use std::collections::{HashMap, HashSet, VecDeque};

use sbot_feed::FeedId;

use super::notes::{MAX_SEQUENCE, Note};
use super::report::Claim;

/// Most feeds that we don't replicate of which one peer's clock is kept.
pub const MAX_ELSEWHERE: usize = 65_536;

/// Most notes that go out in one object: about a megabyte.
pub const NOTES_AT_A_TIME: usize = 16_384;

/// Nothing is known, or nothing was said.
pub(super) const UNKNOWN: i32 = -2;
/// The feed is refused.
pub(super) const REFUSED: i32 = -1;

/// Times, in ms.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A peer that has more of a feed and sends nothing for so long loses it to another (the reference's `timeout`).
    pub stall: u64,
    /// So does one that sends other feeds but not this one. If nobody else has more, the same peer is asked anew: it may
    /// have lost the request, or we the messages. That is repeated ever more rarely.
    pub feed_stall: u64,
    /// For so long without news, a peer's claim to have more of our own feed is believed.
    pub own_claim: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { stall: 3_000, feed_stall: 20_000, own_claim: 60_000 }
    }
}

/// One connection. Outlives it harmlessly: what is asked of a connection that has ended does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Something that happened and that someone should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer's branch of a feed is another one than ours. The feed is stopped with this peer.
    Forked {
        /// The feed.
        feed: FeedId,
        /// Who sent it.
        peer: FeedId,
        /// The sequence at which it doesn't fit.
        sequence: u64,
    },
    /// A peer sent an invalid message. The feed is stopped with this peer.
    Invalid {
        /// The feed that it claims to belong to.
        feed: FeedId,
        /// Who sent it.
        peer: FeedId,
        /// Its claimed sequence.
        sequence: u64,
        /// What is wrong with it.
        error: String,
    },
    /// A peer has more of our own feed than we have: it was restored from a backup, or is used twice.
    OwnFeedAhead {
        /// Who says so.
        peer: FeedId,
        /// How far the peer is.
        claimed: u64,
        /// How far we are.
        have: u64,
    },
    /// Our own feed is as far as all peers said.
    OwnFeedTakenIn {
        /// How far it is now.
        have: u64,
    },
    /// A peer claimed to have more of our own feed and never sent it; it isn't believed any more.
    OwnClaimDropped {
        /// Who said so.
        peer: FeedId,
        /// How far the peer claimed to be.
        claimed: u64,
    },
}

/// State of one feed with one peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rep {
    /// How far the peer is, by what it said or sent last.
    pub(super) theirs: i32,
    /// How far it will be when all that we send has arrived.
    pub(super) sent: i32,
    /// What we told last, on this connection if [`TOLD`], else on an earlier one.
    pub(super) told: i32,
    /// The sequence with which it last asked us to send.
    pub(super) asked: i32,
    /// How far we were when we last asked it to start over.
    pub(super) gap: i32,
    pub(super) flags: u16,
}

/// The peer said something of the feed on this connection.
pub(super) const HEARD: u16 = 1;
/// We did.
pub(super) const TOLD: u16 = 2;
/// The peer wants what follows.
pub(super) const TX: u16 = 4;
/// We want what follows: the peer is the feed's source.
pub(super) const RX: u16 = 8;
/// In the peer's queue of feeds to send.
pub(super) const QUEUED: u16 = 16;
/// In the peer's list of notes to send.
pub(super) const DIRTY: u16 = 32;
/// The feed's author blocks the peer.
pub(super) const BLOCKED: u16 = 64;
/// The peer's branch is forked or invalid.
pub(super) const STOPPED: u16 = 128;
/// Tell the peer to stop before asking it to send.
pub(super) const RESTART: u16 = 256;

impl Rep {
    pub(super) const NEW: Rep =
        Rep { theirs: UNKNOWN, sent: UNKNOWN, told: UNKNOWN, asked: UNKNOWN, gap: UNKNOWN, flags: 0 };

    pub(super) fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

#[derive(Debug)]
pub(super) struct Feed {
    pub(super) id: FeedId,
    /// How far we have it.
    pub(super) have: i32,
    pub(super) wanted: bool,
    /// The connection that it is asked of.
    pub(super) source: Option<u32>,
    /// When it last got longer or changed its source, in ms.
    pub(super) moved: u64,
    /// How often the same source was asked anew since it last got longer.
    pub(super) repeats: u32,
    /// Got longer, and peers haven't been told yet.
    pub(super) touched: bool,
}

/// A feed that we don't replicate, with one peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elsewhere {
    pub(super) theirs: i32,
    pub(super) told: i32,
    pub(super) flags: u16,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: FeedId,
    pub(super) generation: u32,
    /// Notes may go out: the peer dialed us, or has sent its own.
    pub(super) ready: bool,
    /// An object has to go out even if it is empty.
    pub(super) greet: bool,
    /// By feed number; may be shorter than the list of feeds.
    pub(super) reps: Vec<Rep>,
    pub(super) dirty: Vec<u32>,
    pub(super) queue: VecDeque<u32>,
    pub(super) elsewhere: HashMap<FeedId, Elsewhere>,
    pub(super) elsewhere_dirty: Vec<FeedId>,
    /// When it last sent something new, in ms.
    pub(super) moved: u64,
    pub(super) woken: bool,
    /// Its clock changed since it was saved.
    pub(super) changed: bool,
}

impl Peer {
    pub(super) fn rep(&self, number: u32) -> Rep {
        self.reps.get(number as usize).copied().unwrap_or(Rep::NEW)
    }

    /// The place of a feed's state; makes room for it.
    pub(super) fn rep_mut(&mut self, number: u32) -> &mut Rep {
        let at = number as usize;
        if self.reps.len() <= at {
            self.reps.resize(at + 1, Rep::NEW);
        }
        &mut self.reps[at] // there is room now
    }

    /// Puts a feed on the list of notes to send.
    pub(super) fn say(&mut self, number: u32) {
        let rep = self.rep_mut(number);
        if !rep.is(DIRTY) {
            rep.set(DIRTY, true);
            self.dirty.push(number);
        }
    }

    /// Puts a feed in the queue of those to send.
    pub(super) fn enqueue(&mut self, number: u32) {
        let rep = self.rep_mut(number);
        if !rep.is(QUEUED) {
            rep.set(QUEUED, true);
            self.queue.push_back(number);
        }
    }

    fn has_work(&self) -> bool {
        self.ready
            && (self.greet || !self.dirty.is_empty() || !self.elsewhere_dirty.is_empty() || !self.queue.is_empty())
    }
}

/// The state of all connections. The module page says how to use it.
#[derive(Debug)]
pub struct Ebt {
    pub(super) own: FeedId,
    pub(super) settings: Settings,
    pub(super) numbers: HashMap<FeedId, u32>,
    pub(super) feeds: Vec<Feed>,
    pub(super) peers: Vec<Option<Peer>>,
    generation: u32,
    /// Target → authors that block it.
    pub(super) blocks: HashMap<FeedId, HashSet<FeedId>>,
    /// Feeds that got longer.
    pub(super) touched: Vec<u32>,
    pub(super) woken: Vec<u32>,
    pub(super) events: Vec<Event>,
    pub(super) claims: HashMap<FeedId, Claim>,
}

/// Whether a feed is exchanged with a peer.
pub(super) fn shared(feed: &Feed, rep: &Rep) -> bool {
    feed.wanted && rep.flags & (BLOCKED | STOPPED) == 0
}

/// A sequence as it is kept; what notes can't carry is cut.
pub(super) fn clamp(sequence: u64) -> i32 {
    i32::try_from(sequence.min(u64::from(MAX_SEQUENCE))).unwrap_or(i32::MAX)
}

impl Ebt {
    /// No connections, and no feed wanted but our own, of which we have `have` messages.
    #[must_use]
    pub fn new(own: FeedId, have: u64, settings: Settings) -> Ebt {
        let mut ebt = Ebt {
            own,
            settings,
            numbers: HashMap::new(),
            feeds: Vec::new(),
            peers: Vec::new(),
            generation: 0,
            blocks: HashMap::new(),
            touched: Vec::new(),
            woken: Vec::new(),
            events: Vec::new(),
            claims: HashMap::new(),
        };
        ebt.want(own, have);
        ebt
    }

    /// A connection with EBT begins. `dialed` says that we dialed; `stored` is what [`Ebt::clock`] gave when the last one
    /// with this peer ended. An older connection with the same peer ends: [`Ebt::disconnect`] it first to save its clock.
    pub fn connect(&mut self, id: FeedId, dialed: bool, stored: &[(FeedId, i64)], now: u64) -> Link {
        if let Some(old) = self.link_of(&id) {
            self.disconnect(old, now);
        }
        self.generation = self.generation.wrapping_add(1);
        let slot = self.peers.iter().position(Option::is_none).unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        let mut peer = Peer {
            id,
            generation: self.generation,
            ready: false,
            greet: false,
            reps: vec![Rep::NEW; self.feeds.len()],
            dirty: Vec::new(),
            queue: VecDeque::new(),
            elsewhere: HashMap::new(),
            elsewhere_dirty: Vec::new(),
            moved: now,
            woken: false,
            changed: false,
        };
        for (feed, note) in stored {
            let (theirs, told) = unpack(*note);
            if let Some(number) = self.numbers.get(feed) {
                let rep = peer.rep_mut(*number);
                (rep.theirs, rep.told) = (theirs, told);
            } else if peer.elsewhere.len() < MAX_ELSEWHERE {
                peer.elsewhere.insert(*feed, Elsewhere { theirs, told, flags: 0 });
            }
        }
        for author in self.blocks.get(&id).into_iter().flatten() {
            if let Some(number) = self.numbers.get(author) {
                peer.rep_mut(*number).set(BLOCKED, true);
            }
        }
        // there are never 2^32 connections
        let link = Link { slot: slot as u32, generation: self.generation };
        if let Some(place) = self.peers.get_mut(slot) {
            *place = Some(peer);
        }
        if !dialed {
            self.greet(link.slot, now);
        }
        self.own_claim(link.slot, now);
        link
    }

    /// A connection has ended; answers with its clock, to be saved. Feeds that were asked of it are asked of others.
    pub fn disconnect(&mut self, link: Link, now: u64) -> Vec<(FeedId, i64)> {
        if self.peer(link).is_none() {
            return Vec::new();
        }
        let clock = self.clock(link);
        if let Some(place) = self.peers.get_mut(link.slot as usize) {
            *place = None;
        }
        for number in 0..self.feeds.len() as u32 {
            if self.feeds.get(number as usize).is_some_and(|feed| feed.source == Some(link.slot)) {
                self.replace_source(number, now);
            }
        }
        clock
    }

    /// The open connection with a peer.
    #[must_use]
    pub fn link_of(&self, id: &FeedId) -> Option<Link> {
        self.slots().find(|(_, peer)| peer.id == *id).map(|(slot, peer)| Link { slot, generation: peer.generation })
    }

    /// All open connections and the peers at their other ends.
    pub fn links(&self) -> impl Iterator<Item = (Link, FeedId)> + '_ {
        self.slots().map(|(slot, peer)| (Link { slot, generation: peer.generation }, peer.id))
    }

    /// What is known of the peer's clock and what we told it: to be saved, and given to [`Ebt::connect`] the next time.
    /// The numbers are opaque.
    #[must_use]
    pub fn clock(&self, link: Link) -> Vec<(FeedId, i64)> {
        let Some(peer) = self.peer(link) else { return Vec::new() };
        let known = |theirs, told| theirs != UNKNOWN || told != UNKNOWN;
        let numbered = self.feeds.iter().zip(&peer.reps).filter(|(_, rep)| known(rep.theirs, rep.told));
        let elsewhere = peer.elsewhere.iter().filter(|(_, state)| known(state.theirs, state.told));
        numbered
            .map(|(feed, rep)| (feed.id, pack(rep.theirs, rep.told)))
            .chain(elsewhere.map(|(feed, state)| (*feed, pack(state.theirs, state.told))))
            .collect()
    }

    /// [`Ebt::clock`], if it changed since this was last asked.
    pub fn changed_clock(&mut self, link: Link) -> Option<Vec<(FeedId, i64)>> {
        let peer = self.peer_mut(link).filter(|peer| peer.changed)?;
        peer.changed = false;
        Some(self.clock(link))
    }

    /// Connections for which [`Ebt::take_notes`] or [`Ebt::next_run`] has something, or may have.
    pub fn take_woken(&mut self) -> Vec<Link> {
        let woken = std::mem::take(&mut self.woken);
        woken
            .into_iter()
            .filter_map(|slot| {
                let peer = self.peers.get_mut(slot as usize)?.as_mut()?;
                peer.woken = false;
                Some(Link { slot, generation: peer.generation })
            })
            .collect()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The next object of notes for a connection, at most [`NOTES_AT_A_TIME`] of them; `None` if there is nothing to say.
    pub fn take_notes(&mut self, link: Link) -> Option<Vec<(FeedId, Note)>> {
        let peer =
            self.peers.get_mut(link.slot as usize)?.as_mut().filter(|peer| peer.generation == link.generation)?;
        if !peer.ready {
            return None;
        }
        let mut notes = Vec::new();
        let mut again = Vec::new();
        while notes.len() < NOTES_AT_A_TIME
            && let Some(feed) = peer.elsewhere_dirty.pop()
        {
            if let Some(state) = peer.elsewhere.get_mut(&feed) {
                state.flags = state.flags & !DIRTY | TOLD;
                state.told = REFUSED;
                notes.push((feed, Note::Refused));
            }
        }
        while notes.len() < NOTES_AT_A_TIME
            && let Some(number) = peer.dirty.pop()
        {
            let (Some(feed), Some(rep)) = (self.feeds.get(number as usize), peer.reps.get_mut(number as usize)) else {
                continue;
            };
            rep.set(DIRTY, false);
            let restart = rep.is(RESTART);
            rep.set(RESTART, false);
            let note = if !shared(feed, rep) {
                Note::Refused
            } else {
                if restart {
                    rep.set(DIRTY, true);
                    again.push(number);
                }
                let sequence = u32::try_from(feed.have).unwrap_or(0);
                Note::At { sequence, send: rep.is(RX) && !restart }
            };
            rep.told = match note {
                Note::Refused => REFUSED,
                Note::At { .. } => feed.have,
            };
            rep.set(TOLD, true);
            notes.push((feed.id, note));
        }
        peer.dirty.append(&mut again);
        if notes.is_empty() && !peer.greet {
            return None;
        }
        peer.greet = false;
        peer.changed |= !notes.is_empty();
        Some(notes)
    }

    pub(super) fn peer(&self, link: Link) -> Option<&Peer> {
        self.peers.get(link.slot as usize)?.as_ref().filter(|peer| peer.generation == link.generation)
    }

    pub(super) fn peer_mut(&mut self, link: Link) -> Option<&mut Peer> {
        self.peers.get_mut(link.slot as usize)?.as_mut().filter(|peer| peer.generation == link.generation)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (u32, &Peer)> {
        (0..).zip(&self.peers).filter_map(|(slot, peer)| Some((slot, peer.as_ref()?)))
    }

    /// Notes that a connection may have something to send.
    pub(super) fn wake(&mut self, slot: u32) {
        if let Some(Some(peer)) = self.peers.get_mut(slot as usize)
            && peer.has_work()
            && !peer.woken
        {
            peer.woken = true;
            self.woken.push(slot);
        }
    }
}

fn pack(theirs: i32, told: i32) -> i64 {
    i64::from(told) << 32 | i64::from(theirs.cast_unsigned())
}

fn unpack(note: i64) -> (i32, i32) {
    let told = (note >> 32) as i32; // fits: the upper half
    let theirs = (note & 0xffff_ffff) as u32; // the lower half
    (theirs.cast_signed().max(UNKNOWN), told.max(UNKNOWN))
}
