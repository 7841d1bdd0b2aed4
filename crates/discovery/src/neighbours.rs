//! Who has been heard on the local network lately.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use sbot_feed::FeedId;

use crate::lan::SILENCE;
use crate::sighting::Sighting;

/// Most announcements of strangers that are remembered.
pub const MOST: usize = 256;
/// Most announcements from one sender: no single machine can crowd out the others.
pub const MOST_OF_ONE: usize = 8;
/// Most announcements that name one friend. Friends have places of their own, so that strangers, who may have any number
/// of keys and senders' addresses, can't crowd them out; there are no more of them than the social graph knows.
pub const MOST_OF_FRIEND: usize = 8;

/// Announcements that are still fresh. No clock of its own: times are milliseconds of any clock that never goes back.
#[derive(Debug, Default)]
pub struct Neighbours {
    heard: HashMap<String, Heard>,
    /// How many of each sender's are remembered.
    of_sender: HashMap<IpAddr, usize>,
    /// How many name each friend.
    of_friend: HashMap<FeedId, usize>,
    /// How many name strangers.
    of_strangers: usize,
}

#[derive(Debug)]
struct Heard {
    sighting: Sighting,
    sender: IpAddr,
    friend: bool,
    last: u64,
}

impl Neighbours {
    /// An announcement came from `sender`, of a `friend` or a stranger; answers whether it is news. There is a limit to how
    /// many are remembered, and what goes beyond it is passed over.
    pub fn heard(&mut self, sighting: &Sighting, sender: IpAddr, friend: bool, now: u64) -> bool {
        // The address has the key in it.
        let name = sighting.address.to_string();
        if let Some(known) = self.heard.get_mut(&name) {
            known.last = now;
            return false;
        }
        let of_sender = self.of_sender.get(&sender).copied().unwrap_or(0);
        let of_friend = self.of_friend.get(&sighting.peer).copied().unwrap_or(0);
        let full = if friend { of_friend >= MOST_OF_FRIEND } else { self.of_strangers >= MOST };
        if full || of_sender >= MOST_OF_ONE {
            return false;
        }
        self.of_sender.insert(sender, of_sender + 1);
        if friend {
            self.of_friend.insert(sighting.peer, of_friend + 1);
        } else {
            self.of_strangers += 1;
        }
        self.heard.insert(name, Heard { sighting: sighting.clone(), sender, friend, last: now });
        true
    }

    /// Forgets an announcement, so that the next one is news again.
    pub fn forget(&mut self, sighting: &Sighting) {
        let Some(known) = self.heard.remove(&sighting.address.to_string()) else { return };
        one_less(&mut self.of_sender, &known.sender);
        if known.friend {
            one_less(&mut self.of_friend, &known.sighting.peer);
        } else {
            self.of_strangers -= 1;
        }
    }

    /// Forgets and answers what has not been heard for [`SILENCE`].
    pub fn silent(&mut self, now: u64) -> Vec<Sighting> {
        let silent = |heard: &&Heard| now.saturating_sub(heard.last) >= SILENCE;
        let gone: Vec<Sighting> = self.heard.values().filter(silent).map(|heard| heard.sighting.clone()).collect();
        gone.iter().for_each(|sighting| self.forget(sighting));
        gone
    }
}

/// Counts one down, and forgets what is counted when none is left.
fn one_less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use sbot_multiserver::Route;

    use super::*;
    use crate::sighting::Origin;

    fn at(host: u32) -> Sighting {
        let address =
            format!("net:10.0.{}.{}:8008~shs:1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=", host / 256, host % 256);
        Sighting::new(address.parse().unwrap(), Origin::Local).unwrap()
    }

    fn sender(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn an_announcement_is_news_once_until_it_has_been_silent() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.heard(&at(1), sender(1), false, 0));
        assert!(!neighbours.heard(&at(1), sender(1), false, SILENCE - 1));
        assert!(neighbours.silent(SILENCE).is_empty());
        assert_eq!(neighbours.silent(2 * SILENCE), [at(1)]);
        assert!(neighbours.silent(2 * SILENCE).is_empty());
        assert!(neighbours.heard(&at(1), sender(1), false, 2 * SILENCE));
    }

    #[test]
    fn a_flood_is_bounded_and_one_sender_cant_crowd_out_others() {
        let mut neighbours = Neighbours::default();
        let taken = (0..100_000).filter(|host| neighbours.heard(&at(*host), sender(1), false, 0)).count();
        assert_eq!(taken, MOST_OF_ONE);
        assert!(neighbours.heard(&at(60_000), sender(2), false, 0));
        let taken = (0..60_000).filter(|host| neighbours.heard(&at(*host), sender(*host), false, 0)).count();
        assert_eq!(taken, MOST - MOST_OF_ONE - 1);
        assert_eq!(neighbours.silent(SILENCE).len(), MOST);
        assert!(neighbours.heard.is_empty() && neighbours.of_sender.is_empty());
        assert_eq!(neighbours.of_strangers, 0);
    }

    #[test]
    fn strangers_cant_crowd_out_friends_nor_one_friend_the_others() {
        let mut neighbours = Neighbours::default();
        for host in 0..60_000 {
            neighbours.heard(&at(host), sender(host), false, 0);
        }
        assert!(!neighbours.heard(&at(60_000), sender(60_000), false, 0));
        let taken = (60_000..65_000).filter(|host| neighbours.heard(&at(*host), sender(*host), true, 0)).count();
        assert_eq!(taken, MOST_OF_FRIEND);
        let mut other = at(1);
        other.peer = FeedId([7; 32]);
        other.address = Route::net("10.9.9.9", 8008, &other.peer).into();
        assert!(neighbours.heard(&other, sender(65_001), true, 0));
        assert_eq!(neighbours.silent(SILENCE).len(), MOST + MOST_OF_FRIEND + 1);
        assert!(neighbours.of_friend.is_empty() && neighbours.of_sender.is_empty());
    }
}
