//! Who is at a hub, as far as they say so.
//!
//! Each says so every minute and is forgotten after a few of silence. There are places for those whom we know from the
//! social graph, of whom the nearer come first, and a few for strangers, of whom the first stay. No clock of its own: times
//! are milliseconds of any clock that never goes back.

use std::collections::HashMap;

use sbot_feed::FeedId;

/// Most peers of the social graph that are remembered at one hub. Beyond it the nearer take the place of those further away.
pub const MOST_KNOWN: usize = 896;
/// Most strangers that are remembered at one hub, those who came first. Together with the known ones as many as the peer
/// manager takes (`most_hub_peers`).
pub const MOST_STRANGERS: usize = 128;

/// What is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Somebody is there, or is still there after a good while.
    Here(FeedId),
    /// Somebody is no longer.
    Gone(FeedId),
}

/// Who is at a hub.
#[derive(Debug)]
pub struct Attendance {
    forget: u64,
    repeat: u64,
    known: HashMap<FeedId, Known>,
    strangers: HashMap<FeedId, Heard>,
}

#[derive(Debug)]
struct Known {
    hops: u32,
    heard: Heard,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    last: u64,
    told: u64,
}

impl Attendance {
    /// Nobody is there yet. Who is silent for `forget` is forgotten; who isn't is told of anew every `repeat`, since
    /// whoever was told may have given it up meanwhile. Both in ms.
    pub fn new(forget: u64, repeat: u64) -> Self {
        Attendance { forget, repeat, known: HashMap::new(), strangers: HashMap::new() }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.len() + self.strangers.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Somebody says that it is there; `hops` is how far it is from us in the social graph. At most two news: it, and
    /// whoever has to make room.
    pub fn here(&mut self, peer: FeedId, hops: Option<u32>, now: u64) -> Vec<Presence> {
        let Some(hops) = hops else { return self.stranger(peer, now) };
        let mut news = Vec::new();
        // Who was a stranger keeps what was heard of it.
        let before = self.strangers.remove(&peer);
        if let Some(known) = self.known.get_mut(&peer) {
            known.hops = hops;
            news.extend(known.heard.again(peer, self.repeat, now));
            return news;
        }
        if self.known.len() >= MOST_KNOWN {
            let furthest = self.known.iter().max_by_key(|(_, known)| known.hops).map(|(one, known)| (*one, known.hops));
            match furthest {
                Some((one, far)) if far > hops => {
                    self.known.remove(&one);
                    news.push(Presence::Gone(one));
                }
                _ => {
                    news.extend(before.map(|_| Presence::Gone(peer)));
                    return news;
                }
            }
        }
        let mut heard = before.unwrap_or(Heard { last: now, told: now });
        match before {
            Some(_) => news.extend(heard.again(peer, self.repeat, now)),
            None => news.push(Presence::Here(peer)),
        }
        self.known.insert(peer, Known { hops, heard });
        news
    }

    fn stranger(&mut self, peer: FeedId, now: u64) -> Vec<Presence> {
        if let Some(known) = self.known.remove(&peer) {
            if self.strangers.len() >= MOST_STRANGERS {
                return vec![Presence::Gone(peer)];
            }
            self.strangers.insert(peer, known.heard);
        }
        if let Some(heard) = self.strangers.get_mut(&peer) {
            return heard.again(peer, self.repeat, now).into_iter().collect();
        }
        if self.strangers.len() >= MOST_STRANGERS {
            return Vec::new();
        }
        self.strangers.insert(peer, Heard { last: now, told: now });
        vec![Presence::Here(peer)]
    }

    /// Somebody says that it leaves; answers whether it was there.
    pub fn gone(&mut self, peer: &FeedId) -> bool {
        self.known.remove(peer).is_some() || self.strangers.remove(peer).is_some()
    }

    /// Forgets who has been silent for too long, and answers who that is.
    pub fn silent(&mut self, now: u64) -> Vec<FeedId> {
        let silent = |last: u64| now.saturating_sub(last) >= self.forget;
        let known = self.known.extract_if(|_, known| silent(known.heard.last)).map(|(peer, _)| peer);
        let strangers = self.strangers.extract_if(|_, heard| silent(heard.last)).map(|(peer, _)| peer);
        known.chain(strangers).collect()
    }
}

impl Heard {
    fn again(&mut self, peer: FeedId, repeat: u64, now: u64) -> Option<Presence> {
        self.last = now;
        let due = now.saturating_sub(self.told) >= repeat;
        due.then(|| {
            self.told = now;
            Presence::Here(peer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn peer(number: u32) -> FeedId {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        FeedId(key)
    }

    #[test]
    fn who_is_there_is_news_once_and_again_after_a_good_while() {
        let mut hub = Attendance::new(200, 1_000);
        assert_eq!(hub.here(peer(1), Some(1), 0), [Presence::Here(peer(1))]);
        for now in (100..1_000).step_by(100) {
            assert_eq!(hub.here(peer(1), Some(1), now), []);
            assert_eq!(hub.silent(now), []);
        }
        assert_eq!(hub.here(peer(1), Some(1), 1_000), [Presence::Here(peer(1))]);
        assert_eq!(hub.silent(1_199), []);
        assert_eq!((hub.silent(1_200), hub.len()), (vec![peer(1)], 0));
    }

    #[test]
    fn a_flood_of_strangers_is_bounded_and_friends_still_have_a_place() {
        let mut hub = Attendance::new(200, 1_000);
        let taken = (0..100_000).map(|number| hub.here(peer(number), None, 0).len()).sum::<usize>();
        assert_eq!((taken, hub.len()), (MOST_STRANGERS, MOST_STRANGERS));
        assert_eq!(hub.here(peer(200_000), Some(3), 0), [Presence::Here(peer(200_000))]);
    }

    #[test]
    fn among_friends_the_nearer_come_first() {
        let mut hub = Attendance::new(200, 1_000);
        let taken = (0..10_000).map(|number| hub.here(peer(number), Some(2), 0).len()).sum::<usize>();
        assert_eq!(taken, MOST_KNOWN);
        let news = hub.here(peer(20_000), Some(1), 0);
        assert!(matches!(news[..], [Presence::Gone(_), Presence::Here(near)] if near == peer(20_000)), "{news:?}");
        assert_eq!(hub.len(), MOST_KNOWN);
    }

    #[test]
    fn a_stranger_who_becomes_a_friend_is_no_news() {
        let mut hub = Attendance::new(200, 1_000);
        hub.here(peer(1), None, 0);
        assert_eq!(hub.here(peer(1), Some(1), 10), []);
        assert_eq!(hub.here(peer(1), None, 20), []);
        assert!(hub.gone(&peer(1)) && !hub.gone(&peer(1)));
    }

    proptest! {
        #[test]
        fn whoever_was_told_of_is_remembered_until_it_is_told_that_it_has_gone(
            steps in proptest::collection::vec((0u32..1_200, proptest::option::of(0u32..3), 0u64..3, 0u8..20), 0..3_000)
        ) {
            let (mut hub, mut told, mut now) = (Attendance::new(200, 500), HashSet::new(), 0);
            for (number, hops, passed, what) in steps {
                now += passed;
                let news = match what {
                    0 => hub.silent(now).into_iter().map(Presence::Gone).collect(),
                    1 => hub.gone(&peer(number)).then_some(Presence::Gone(peer(number))).into_iter().collect(),
                    _ => hub.here(peer(number), hops, now),
                };
                for one in news {
                    match one {
                        Presence::Here(peer) => drop(told.insert(peer)),
                        Presence::Gone(peer) => prop_assert!(told.remove(&peer)),
                    }
                }
                prop_assert_eq!(told.len(), hub.len());
                prop_assert!(hub.known.len() <= MOST_KNOWN && hub.strangers.len() <= MOST_STRANGERS);
            }
        }
    }
}
