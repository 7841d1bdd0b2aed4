//! How much may be said at a hub in a time.
//!
//! Everyone whom we know has a share of its own; all strangers together have one. What goes beyond is passed over. No
//! clock of its own: times are milliseconds of any clock that never goes back.

use std::collections::HashMap;

use sbot_feed::FeedId;

/// Most shares that are remembered; each takes some fifty bytes. A share that hasn't been used for a while is forgotten
/// first; if all are in use, who comes newly shares with the strangers.
const MOST_SHARES: usize = 1_024;

/// So much a second, and so much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A second, at length.
    pub per_second: u32,
    /// At once.
    pub at_once: u32,
}

impl Rate {
    /// Milliseconds that something costs, times 1,000.
    fn cost(self, amount: u64) -> u64 {
        amount.saturating_mul(1_000_000) / u64::from(self.per_second.max(1))
    }

    fn room(self) -> u64 {
        self.cost(u64::from(self.at_once.max(1)))
    }
}

/// When what was used will have been allowed, in ms times 1,000: a leaky bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Debt(u64);

impl Debt {
    /// Uses `amount`, unless that is too much.
    pub(crate) fn allow(&mut self, amount: u64, rate: Rate, now: u64) -> bool {
        let now = now.saturating_mul(1_000);
        let then = self.0.max(now).saturating_add(rate.cost(amount));
        let free = then - now <= rate.room();
        if free {
            self.0 = then;
        }
        free
    }

    /// Uses `amount` in any case; answers for how many milliseconds nothing more is allowed.
    pub(crate) fn add(&mut self, amount: u64, rate: Rate, now: u64) -> u64 {
        let now = now.saturating_mul(1_000);
        self.0 = self.0.max(now).saturating_add(rate.cost(amount));
        (self.0 - now).saturating_sub(rate.room()) / 1_000
    }

    fn is_paid(self, now: u64) -> bool {
        self.0 <= now.saturating_mul(1_000)
    }
}

/// The shares of all who speak in a channel.
#[derive(Debug)]
pub struct Rates {
    of_known: Rate,
    of_strangers: Rate,
    known: HashMap<FeedId, Debt>,
    strangers: Debt,
}

impl Rates {
    /// `of_known` is for each whom we know, `of_strangers` for all others together.
    pub fn new(of_known: Rate, of_strangers: Rate) -> Self {
        Rates { of_known, of_strangers, known: HashMap::new(), strangers: Debt::default() }
    }

    /// Somebody says something; answers whether to listen.
    pub fn allow(&mut self, from: FeedId, known: bool, now: u64) -> bool {
        if known && !self.known.contains_key(&from) && self.known.len() >= MOST_SHARES {
            self.known.retain(|_, debt| !debt.is_paid(now));
        }
        if known && (self.known.len() < MOST_SHARES || self.known.contains_key(&from)) {
            return self.known.entry(from).or_default().allow(1, self.of_known, now);
        }
        self.strangers.allow(1, self.of_strangers, now)
    }

    /// Shares that are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Rate = Rate { per_second: 1, at_once: 5 };
    const STRANGERS: Rate = Rate { per_second: 10, at_once: 100 };

    fn peer(number: u32) -> FeedId {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        FeedId(key)
    }

    #[test]
    fn a_flood_of_strangers_leaves_friends_their_share() {
        let mut rates = Rates::new(KNOWN, STRANGERS);
        assert_eq!((0..100_000).filter(|number| rates.allow(peer(*number), false, 0)).count(), 100);
        assert_eq!(rates.len(), 0);
        let friend = peer(7);
        assert_eq!((0..10).filter(|_| rates.allow(friend, true, 0)).count(), 5);
        assert_eq!((0..10).filter(|_| rates.allow(friend, true, 2_000)).count(), 2);
        assert_eq!((0..100).filter(|number| rates.allow(peer(*number), false, 2_000)).count(), 20);
    }

    #[test]
    fn shares_are_bounded_and_those_in_use_are_kept() {
        let mut rates = Rates::new(KNOWN, STRANGERS);
        for number in 0..100_000 {
            rates.allow(peer(number), true, 0);
        }
        assert_eq!(rates.len(), MOST_SHARES);
        assert!(!rates.allow(peer(99_999), true, 0), "the strangers' share is used up");
        assert!(rates.allow(peer(99_999), true, 10_000));
        assert_eq!(rates.len(), 1);
    }

    #[test]
    fn what_is_added_beyond_the_rate_must_be_waited_for() {
        let (mut debt, rate) = (Debt::default(), Rate { per_second: 1_000, at_once: 2_000 });
        assert_eq!((debt.add(2_000, rate, 0), debt.add(500, rate, 0)), (0, 500));
        assert_eq!(debt.add(0, rate, 1_000), 0);
    }
}
