//! Friends in the distributed hash table of BitTorrent (BEP 5): a node announces its TCP port under a key that only those
//! who know its feed id and the network key can make, and looks up those whom it follows.
//!
//! The key is the first 20 bytes of HMAC-SHA-256, keyed with the network key, of
//! ```text
//! "sbot-dht-1"  feed's public key (32 bytes)  day (8 bytes, big endian)
//! ```
//! where the day is the number of whole days since 1970, UTC. So the table's nodes learn an address and a number that is
//! another one tomorrow, and no identity. Whoever knows both the feed id and the network key can look the address up, and
//! can announce others: an answer is a claim, until a handshake proves it. Within an hour of midnight both days' keys are
//! used, so that clocks may differ.
//!
//! This file says what to do when and does no IO; [`run_dht`](crate::run_dht) does it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddrV4;

use hmac::{Hmac, KeyInit, Mac};
use sbot_feed::{FeedId, NetworkKey};
use sbot_multiserver::Route;
use sha2::Sha256;

use crate::hosts::is_elsewhere;
use crate::sighting::{News, Origin, Sighting};

/// Tells these keys from all others.
const DOMAIN: &[u8] = b"sbot-dht-1";
/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;
/// Milliseconds that clocks may differ.
const SKEW: u64 = 60 * 60 * 1000;
/// Most addresses of one friend: as many as a peer may have routes.
pub const MOST_OF_FRIEND: usize = 8;

/// A key of the table.
pub type DhtKey = [u8; 20];

/// The key of a feed on a day, counted from 1970.
pub fn dht_key(network: &NetworkKey, feed: &FeedId, day: u64) -> DhtKey {
    let digest = digest(network, &[DOMAIN, &feed.0, &day.to_be_bytes()]);
    let mut key = [0; 20];
    key.copy_from_slice(&digest[..20]);
    key
}

/// The keys of a feed at a time, in ms since 1970: one, or two around midnight.
pub fn dht_keys(network: &NetworkKey, feed: &FeedId, now: u64) -> Vec<DhtKey> {
    let days = [now.saturating_sub(SKEW) / DAY, now.saturating_add(SKEW) / DAY];
    let [first, second] = days.map(|day| dht_key(network, feed, day));
    if first == second { vec![first] } else { vec![first, second] }
}

fn digest(network: &NetworkKey, parts: &[&[u8]]) -> [u8; 32] {
    // A MAC of this kind takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&network.0) else { return [0; 32] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// How fast to go, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one look at a friend to the next, if there aren't too many friends.
    pub round: u64,
    /// Least pause between two lookups: each asks some dozens of nodes.
    pub least_pause: u64,
    /// From one announcement to the next. Nodes of the table keep one for half an hour and longer.
    pub announce: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { round: 60 * 60 * 1000, least_pause: 15_000, announce: 20 * 60 * 1000 }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Announce our port under these keys.
    Announce(Vec<DhtKey>),
    /// Look a friend up under these keys.
    LookUp(FeedId, Vec<DhtKey>),
    /// Nothing for so many milliseconds.
    Wait(u64),
}

/// Whom to look up when, and what was found.
#[derive(Debug)]
pub struct Rounds {
    own: FeedId,
    network: NetworkKey,
    pace: Pace,
    /// Whether there is something to announce.
    announces: bool,
    next_announcement: u64,
    next_lookup: u64,
    /// Who was looked up last: the next one is the one with the next key.
    last: Option<FeedId>,
    /// Where friends were found when they were last looked up. Has nobody but friends.
    found: HashMap<FeedId, Vec<Sighting>>,
    /// Whether loopback addresses are good: for networks within one machine.
    loopback: bool,
}

impl Rounds {
    /// Begins with an announcement, if there is one to make.
    pub fn new(own: FeedId, network: NetworkKey, pace: Pace, announces: bool, loopback: bool) -> Rounds {
        Rounds {
            own,
            network,
            pace,
            announces,
            next_announcement: 0,
            next_lookup: 0,
            last: None,
            found: HashMap::new(),
            loopback,
        }
    }

    /// What to do at `now`, in ms since 1970; and what is gone, since who was found is no friend any more. A clock that jumps
    /// back makes nothing wait longer than a round.
    pub fn next(&mut self, now: u64, friends: &[FeedId]) -> (Step, Vec<News>) {
        let are_friends: HashSet<_> = friends.iter().collect();
        let strangers: Vec<_> = self.found.keys().filter(|feed| !are_friends.contains(feed)).copied().collect();
        let gone = strangers.iter().filter_map(|feed| self.found.remove(feed)).flatten().map(News::Gone).collect();
        self.next_announcement = self.next_announcement.min(now + 2 * self.pace.announce);
        self.next_lookup = self.next_lookup.min(now + 2 * self.pace.round);
        let step = if self.announces && self.next_announcement <= now {
            self.next_announcement = now + self.jittered(self.pace.announce, &self.own, now);
            Step::Announce(dht_keys(&self.network, &self.own, now))
        } else if self.next_lookup <= now
            && let Some(friend) = self.next_friend(friends)
        {
            self.last = Some(friend);
            let pause = (self.pace.round / friends.len() as u64).max(self.pace.least_pause);
            self.next_lookup = now + self.jittered(pause, &friend, now);
            Step::LookUp(friend, dht_keys(&self.network, &friend, now))
        } else {
            let next = if self.announces { self.next_announcement } else { u64::MAX };
            // New friends are looked for as soon as a look may be taken.
            let lookup = self.next_lookup.max(now + self.pace.least_pause);
            Step::Wait(next.min(lookup).saturating_sub(now).clamp(1, self.pace.round))
        };
        (step, gone)
    }

    /// A friend was found at these addresses, or nowhere; answers what is new.
    pub fn found(&mut self, friend: FeedId, addresses: impl IntoIterator<Item = SocketAddrV4>) -> Vec<News> {
        let mut now: Vec<Sighting> = Vec::new();
        for address in addresses {
            let host = address.ip().to_string();
            let usable = address.port() != 0 && (is_elsewhere(&host) || (self.loopback && address.ip().is_loopback()));
            let route = Route::net(&host, address.port(), &friend);
            let sighting = Sighting { peer: friend, address: route.into(), origin: Origin::Dht };
            if usable && now.len() < MOST_OF_FRIEND && !now.contains(&sighting) {
                now.push(sighting);
            }
        }
        let before = self.found.remove(&friend).unwrap_or_default();
        let gone = before.iter().filter(|one| !now.contains(one)).map(|one| News::Gone(one.clone()));
        let seen = now.iter().filter(|one| !before.contains(one)).map(|one| News::Seen(one.clone()));
        let news = gone.chain(seen).collect();
        if !now.is_empty() {
            self.found.insert(friend, now);
        }
        news
    }

    fn next_friend(&self, friends: &[FeedId]) -> Option<FeedId> {
        let others = || friends.iter().filter(|friend| **friend != self.own);
        let after = others().filter(|friend| self.last.is_none_or(|last| **friend > last)).min();
        after.or_else(|| others().min()).copied()
    }

    /// Between a half and three halves of a pause: nodes that start together don't go on together. What it depends on is
    /// another number for each node, friend and time.
    fn jittered(&self, pause: u64, feed: &FeedId, now: u64) -> u64 {
        let digest = digest(&self.network, &[b"jitter", &self.own.0, &feed.0, &now.to_be_bytes()]);
        let draw = u64::from(u16::from_be_bytes([digest[0], digest[1]]));
        pause / 2 + (pause.saturating_mul(draw) >> 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NETWORK: NetworkKey = NetworkKey([7; 32]);
    const OWN: FeedId = FeedId([1; 32]);
    const NOON: u64 = 20_000 * DAY + DAY / 2;

    fn rounds() -> Rounds {
        Rounds::new(OWN, NETWORK, Pace::default(), true, false)
    }

    /// All steps but waits in `duration`, with their times.
    fn steps(rounds: &mut Rounds, from: u64, duration: u64, friends: &[FeedId]) -> Vec<(u64, Step)> {
        let (mut now, mut steps) = (from, Vec::new());
        while now < from + duration {
            match rounds.next(now, friends).0 {
                Step::Wait(pause) => now += pause,
                step => steps.push((now, step)),
            }
        }
        steps
    }

    fn looked_up(steps: &[(u64, Step)]) -> Vec<(u64, FeedId)> {
        let one = |(when, step): &(u64, Step)| match step {
            Step::LookUp(friend, _) => Some((*when, *friend)),
            _ => None,
        };
        steps.iter().filter_map(one).collect()
    }

    #[test]
    fn the_key_is_as_documented() {
        // As Python's hmac and hashlib have it.
        let key: String = dht_key(&NETWORK, &OWN, 20_000).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key, "ae22c6aac32b526e78f8a52bb11679bb0e9f1fe2");
        let others = [dht_key(&NETWORK, &OWN, 20_001), dht_key(&NetworkKey([8; 32]), &OWN, 20_000)];
        assert!(others.iter().all(|other| *other != dht_key(&NETWORK, &OWN, 20_000)));
    }

    #[test]
    fn around_midnight_two_keys_are_used() {
        assert_eq!(dht_keys(&NETWORK, &OWN, NOON), [dht_key(&NETWORK, &OWN, 20_000)]);
        let both = [dht_key(&NETWORK, &OWN, 19_999), dht_key(&NETWORK, &OWN, 20_000)];
        assert_eq!(dht_keys(&NETWORK, &OWN, 20_000 * DAY - SKEW), both);
        assert_eq!(dht_keys(&NETWORK, &OWN, 20_000 * DAY + SKEW - 1), both);
        assert_eq!(dht_keys(&NETWORK, &OWN, 0).len(), 1);
        assert_eq!(dht_keys(&NETWORK, &OWN, u64::MAX).len(), 1);
    }

    #[test]
    fn every_friend_has_its_turn_in_a_round_and_lookups_are_spread() {
        let friends: Vec<_> = (2..22).map(|n| FeedId([n; 32])).chain([OWN]).collect();
        let steps = steps(&mut rounds(), NOON, 3 * Pace::default().round, &friends);
        let looks = looked_up(&steps);
        assert!(friends[..20].iter().all(|friend| looks.iter().any(|(_, looked)| looked == friend)));
        assert!(looks.iter().all(|(_, friend)| *friend != OWN));
        assert!(looks.windows(2).all(|two| two[1].0 - two[0].0 >= Pace::default().least_pause / 2));
        assert!((40..100).contains(&looks.len()), "{}", looks.len());
        let announcements = steps.iter().filter(|(_, step)| matches!(step, Step::Announce(_))).count();
        assert!((6..20).contains(&announcements), "{announcements}");
    }

    #[test]
    fn many_friends_make_it_no_faster_than_the_least_pause() {
        let friend = |n: u32| {
            let mut key = [9; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            FeedId(key)
        };
        let friends: Vec<_> = (0..5_000).map(friend).collect();
        let looks = looked_up(&steps(&mut rounds(), NOON, 60 * 60 * 1000, &friends));
        let most = 60 * 60 * 1000 / (Pace::default().least_pause / 2);
        assert!(looks.len() as u64 <= most, "{}", looks.len());
    }

    #[test]
    fn what_is_found_is_told_once_and_gone_with_the_friendship() {
        let (mut rounds, friend) = (rounds(), FeedId([2; 32]));
        let at = |text: &str| text.parse().unwrap();
        let all =
            [at("203.0.113.1:8008"), at("203.0.113.1:8008"), at("127.0.0.1:1"), at("0.0.0.0:1"), at("203.0.113.2:0")];
        let news = rounds.found(friend, all);
        let [News::Seen(sighting)] = news.as_slice() else { panic!("{news:?}") };
        assert_eq!((sighting.peer, sighting.origin), (friend, Origin::Dht));
        assert_eq!(rounds.found(friend, all), []);
        assert_eq!(rounds.next(NOON, &[friend]).1, []);
        assert_eq!(rounds.next(NOON, &[]).1, [News::Gone(sighting.clone())]);
        assert_eq!(rounds.next(NOON, &[]).1, []);
        let flood = (0..60_000).map(|n| SocketAddrV4::new(std::net::Ipv4Addr::from(0xcb00_7100 + n), 8008));
        assert_eq!(rounds.found(friend, flood).len(), MOST_OF_FRIEND);
        assert_eq!(rounds.found(friend, []).len(), MOST_OF_FRIEND);
        assert!(rounds.found.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_the_clock_says_nothing_waits_longer_than_a_round(times in prop::collection::vec(0..u64::MAX / 2, 1..50)) {
            let mut rounds = rounds();
            for now in times {
                if let Step::Wait(pause) = rounds.next(now, &[FeedId([2; 32])]).0 {
                    prop_assert!((1..=Pace::default().round).contains(&pause));
                }
                prop_assert!(rounds.next_lookup <= now + 2 * Pace::default().round);
            }
        }
    }
}
