//! Which connections are being made, and what may join them: the rule for simultaneous offers, and the bounds on what a
//! hub and the strangers at it can make us do. Without IO: what is heard comes in with its time, what is to be done goes
//! out as a [`Verdict`].
//!
//! Nothing that a hub says is believed. Whoever claims to be somebody else can crowd out that one's offers at most, and
//! those that came by the same hub first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use sbot_feed::FeedId;

use super::signal::Signal;
use crate::hub::{HubAddress, Session};

/// Offers of ours that may be under way. A node dials a few dozen peers at once at most.
pub(super) const MAX_OFFERS: usize = 64;
/// Offers that may be under answer: each has a few sockets, for as long as the other side takes to appear.
pub(super) const MAX_ANSWERS: usize = 32;
/// Offers of one peer that may be under answer: one that tries again after a failure, before we have noticed that.
pub(super) const MAX_ANSWERS_PER_PEER: usize = 2;
/// Signals of a peer in one session: an answer, and a candidate for each pair of its addresses and servers.
pub(super) const MAX_SIGNALS: usize = 32;
/// Sessions that are remembered so that an offer that is repeated is not answered again.
pub(super) const MAX_REMEMBERED: usize = 4096;
/// Signals from one hub in a second, and at once. A connection takes ten.
const SIGNALS: Rate = Rate { a_second: 100, at_once: 400 };
/// Offers from one hub in a second, and at once: what makes us open sockets.
const OFFERS: Rate = Rate { a_second: 10, at_once: 40 };
/// Hubs whose signals are counted apart. Who joins hubs bounds them itself, to fewer.
const MAX_HUBS: usize = 256;

/// Whom a connection is made with, and in which attempt.
pub(super) type Key = (FeedId, Session);

/// What is to be done with a signal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Give it to the connection that it belongs to.
    Pass,
    /// Answer this offer; those that are named are given up for it.
    Answer {
        /// Attempts to give up.
        instead_of: Vec<Key>,
    },
    /// Nothing, for this reason.
    Drop(&'static str),
}

/// What a connection that is being made came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Offers,
    Answers,
}

struct Attempt {
    role: Role,
    hub: HubAddress,
    number: u64,
    signals: usize,
}

/// The connections that are being made.
pub(super) struct Table {
    own: FeedId,
    attempts: HashMap<Key, Attempt>,
    next: u64,
    remembered: HashSet<Key>,
    order: VecDeque<Key>,
    hubs: HashMap<HubAddress, (Bucket, Bucket)>,
    /// Whether offers are answered at all.
    listening: bool,
}

impl Table {
    pub(super) fn new(own: FeedId) -> Self {
        Table {
            own,
            attempts: HashMap::new(),
            next: 0,
            remembered: HashSet::new(),
            order: VecDeque::new(),
            hubs: HashMap::new(),
            listening: false,
        }
    }

    /// Starts or stops answering offers. When it stops, those under answer have to be given up.
    pub(super) fn listen(&mut self, listening: bool) -> Vec<Key> {
        self.listening = listening;
        if listening { Vec::new() } else { self.give_up(|_, attempt| attempt.role == Role::Answers) }
    }

    /// Enters an offer of ours. If ours goes before the other side's, those of its offers that are under answer are given
    /// up: only one connection is to come of both.
    ///
    /// # Errors
    /// Why nothing can be offered.
    pub(super) fn offer(&mut self, hub: &HubAddress, key: Key) -> Result<Vec<Key>, &'static str> {
        let (to, _) = key;
        if to == self.own {
            return Err("we are there ourselves");
        }
        if self.attempts.values().filter(|attempt| attempt.role == Role::Offers).count() >= MAX_OFFERS {
            return Err("too many offers are under way");
        }
        let ours_first = self.own < to;
        let given_up = self.give_up(|(of, _), attempt| ours_first && *of == to && attempt.role == Role::Answers);
        self.enter(Role::Offers, hub, key);
        Ok(given_up)
    }

    /// Judges a signal that came by `hub`.
    pub(super) fn heard(&mut self, now: Instant, hub: &HubAddress, key: Key, signal: &Signal) -> Verdict {
        if !self.hubs.contains_key(hub) && self.hubs.len() >= MAX_HUBS {
            // Those that have been silent for a while start anew without being any the better for it.
            self.hubs.retain(|_, (signals, offers)| !signals.is_full(now) || !offers.is_full(now));
        }
        if !self.hubs.contains_key(hub) && self.hubs.len() >= MAX_HUBS {
            return Verdict::Drop("too many hubs");
        }
        let (signals, offers) =
            self.hubs.entry(hub.clone()).or_insert_with(|| (Bucket::new(SIGNALS, now), Bucket::new(OFFERS, now)));
        if !signals.take(now) {
            return Verdict::Drop("too many signals come by this hub");
        }
        if let Some(attempt) = self.attempts.get_mut(&key) {
            let fits = match signal {
                Signal::Offer { .. } | Signal::Other => false,
                Signal::Answer { .. } => attempt.role == Role::Offers,
                Signal::Candidate(_) => true,
            };
            if !fits {
                return Verdict::Drop("it doesn't belong to the session");
            }
            if attempt.signals >= MAX_SIGNALS {
                return Verdict::Drop("too many signals in a session");
            }
            attempt.signals += 1;
            return Verdict::Pass;
        }
        let (from, _) = key;
        if !matches!(signal, Signal::Offer { .. }) {
            return Verdict::Drop("no such session");
        }
        if !self.listening {
            return Verdict::Drop("offers are not answered");
        }
        if from == self.own {
            return Verdict::Drop("it claims to be our own");
        }
        if self.remembered.contains(&key) {
            return Verdict::Drop("the session is over");
        }
        if self.own < from && self.attempts.iter().any(|((to, _), it)| *to == from && it.role == Role::Offers) {
            return Verdict::Drop("our own offer goes first");
        }
        if !offers.take(now) {
            return Verdict::Drop("too many offers come by this hub");
        }
        let instead_of = self.make_room(from);
        self.remember(key);
        self.enter(Role::Answers, hub, key);
        Verdict::Answer { instead_of }
    }

    /// An attempt has succeeded or failed. Its session is over.
    pub(super) fn ended(&mut self, key: &Key) {
        self.attempts.remove(key);
    }

    /// Whether an attempt goes on.
    pub(super) fn goes_on(&self, key: &Key) -> bool {
        self.attempts.contains_key(key)
    }

    /// How many connections are being made.
    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    fn enter(&mut self, role: Role, hub: &HubAddress, key: Key) {
        let number = self.next;
        self.next += 1;
        self.attempts.insert(key, Attempt { role, hub: hub.clone(), number, signals: 0 });
    }

    fn give_up(&mut self, wanted: impl Fn(&Key, &Attempt) -> bool) -> Vec<Key> {
        let keys: Vec<Key> = self.attempts.iter().filter(|(key, it)| wanted(key, it)).map(|(key, _)| *key).collect();
        for key in &keys {
            self.attempts.remove(key);
        }
        keys
    }

    /// The oldest offers under answer make room: one of the same peer if it has its share, else of the hub with most. An
    /// honest peer needs a few round trips, one that floods us never appears.
    fn make_room(&mut self, from: FeedId) -> Vec<Key> {
        let answers = || self.attempts.iter().filter(|(_, attempt)| attempt.role == Role::Answers);
        let oldest = |wanted: &dyn Fn(&Key, &Attempt) -> bool| {
            answers().filter(|(key, it)| wanted(key, it)).min_by_key(|(_, it)| it.number).map(|(key, _)| *key)
        };
        let chosen = if answers().filter(|((of, _), _)| *of == from).count() >= MAX_ANSWERS_PER_PEER {
            oldest(&|(of, _), _| *of == from)
        } else if answers().count() >= MAX_ANSWERS {
            let mut counts: HashMap<&HubAddress, usize> = HashMap::new();
            for (_, attempt) in answers() {
                *counts.entry(&attempt.hub).or_default() += 1;
            }
            let most = counts.values().copied().max().unwrap_or(0);
            oldest(&|_, attempt| counts.get(&attempt.hub) == Some(&most))
        } else {
            None
        };
        if let Some(key) = chosen {
            self.attempts.remove(&key);
        }
        chosen.into_iter().collect()
    }

    fn remember(&mut self, key: Key) {
        if self.remembered.insert(key) {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.remembered.remove(&oldest);
            }
        }
    }
}

/// So many a second, and so many at once after a silence.
#[derive(Debug, Clone, Copy)]
struct Rate {
    a_second: u32,
    at_once: u32,
}

/// A token bucket.
struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Bucket { rate, tokens: rate.at_once.into(), at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).min(Duration::from_secs(3600));
        self.tokens =
            (self.tokens + passed.as_secs_f64() * f64::from(self.rate.a_second)).min(self.rate.at_once.into());
        self.at = self.at.max(now);
    }

    fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.rate.at_once.into()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
