//! Who has been heard on the local network lately.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::lan::SILENCE;
use crate::sighting::Sighting;

/// Most announcements that are remembered.
pub const MOST: usize = 256;
/// Most of them from one sender: no single machine can crowd out the others.
pub const MOST_OF_ONE: usize = 8;

/// Announcements that are still fresh. No clock of its own: times are milliseconds of any clock that never goes back.
#[derive(Debug, Default)]
pub struct Neighbours {
    heard: HashMap<String, Heard>,
    /// How many of each sender's are remembered.
    of_sender: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Heard {
    sighting: Sighting,
    sender: IpAddr,
    last: u64,
}

impl Neighbours {
    /// An announcement came from `sender`; answers whether it is news. There is a limit to how many are remembered, and
    /// what goes beyond it is passed over.
    pub fn heard(&mut self, sighting: &Sighting, sender: IpAddr, now: u64) -> bool {
        // The address has the key in it.
        let name = sighting.address.to_string();
        if let Some(known) = self.heard.get_mut(&name) {
            known.last = now;
            return false;
        }
        let count = self.of_sender.get(&sender).copied().unwrap_or(0);
        if self.heard.len() >= MOST || count >= MOST_OF_ONE {
            return false;
        }
        self.of_sender.insert(sender, count + 1);
        self.heard.insert(name, Heard { sighting: sighting.clone(), sender, last: now });
        true
    }

    /// Forgets an announcement, so that the next one is news again.
    pub fn forget(&mut self, sighting: &Sighting) {
        if let Some(known) = self.heard.remove(&sighting.address.to_string())
            && let Some(count) = self.of_sender.get_mut(&known.sender)
        {
            *count -= 1;
            if *count == 0 {
                self.of_sender.remove(&known.sender);
            }
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

#[cfg(test)]
mod tests {
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
        assert!(neighbours.heard(&at(1), sender(1), 0));
        assert!(!neighbours.heard(&at(1), sender(1), SILENCE - 1));
        assert!(neighbours.silent(SILENCE).is_empty());
        assert_eq!(neighbours.silent(2 * SILENCE), [at(1)]);
        assert!(neighbours.silent(2 * SILENCE).is_empty());
        assert!(neighbours.heard(&at(1), sender(1), 2 * SILENCE));
    }

    #[test]
    fn a_flood_is_bounded_and_one_sender_cant_crowd_out_others() {
        let mut neighbours = Neighbours::default();
        let taken = (0..100_000).filter(|host| neighbours.heard(&at(*host), sender(1), 0)).count();
        assert_eq!(taken, MOST_OF_ONE);
        assert!(neighbours.heard(&at(60_000), sender(2), 0));
        let taken = (0..60_000).filter(|host| neighbours.heard(&at(*host), sender(*host), 0)).count();
        assert_eq!(taken, MOST - MOST_OF_ONE - 1);
        assert_eq!(neighbours.silent(SILENCE).len(), MOST);
        assert!(neighbours.heard.is_empty() && neighbours.of_sender.is_empty());
    }
}
