//! Sightings, and the stream in which they flow.

use sbot_feed::FeedId;
use sbot_multiserver::{Address, AddressError};
use tokio::sync::mpsc;

/// Sightings that wait to be taken. A source that has more waits, or loses them if it can't ([`Spotter::try_see`]):
/// what matters will be seen again.
pub const WAITING: usize = 64;

/// Where a sighting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The user.
    Manual,
    /// The settings.
    Seed,
    /// The peer itself, on the local network.
    Local,
    /// A message in a feed that tells of a pub.
    Pub,
    /// The distributed hash table.
    Dht,
}

impl Origin {
    /// The name, as `gossip.peers` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Manual => "manual",
            Origin::Seed => "seed",
            Origin::Local => "local",
            Origin::Pub => "pub",
            Origin::Dht => "dht",
        }
    }
}

/// Somebody says that a peer is at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Who is said to be there.
    pub peer: FeedId,
    /// Where.
    pub address: Address,
    /// Who says so.
    pub origin: Origin,
}

impl Sighting {
    /// What an address with a key in it claims.
    ///
    /// # Errors
    /// [`Refused::NoKey`] if there is none.
    pub fn new(address: Address, origin: Origin) -> Result<Self, Refused> {
        let peer = address.key().ok_or_else(|| Refused::NoKey { address: address.to_string() })?;
        Ok(Sighting { peer, address, origin })
    }
}

/// Why an address is no sighting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It doesn't say who is there.
    #[error("{address} doesn't say whose address it is: expected ~shs:KEY")]
    NoKey {
        /// The address.
        address: String,
    },
    /// It can't be opened with the network key.
    #[error("an announcement of another network")]
    OtherNetwork,
    /// It has no address in it.
    #[error("an announcement without an address")]
    NoAddress,
    /// It isn't signed by the one whose address it is.
    #[error("{address} is not signed by whose address it is")]
    Signature {
        /// The address.
        address: String,
    },
    /// Nobody takes sightings any more.
    #[error("discovery has ended")]
    Ended,
}

/// What a source has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Somebody says that a peer is at an address.
    Seen(Sighting),
    /// Nobody says so any more: the peer may be gone from there.
    Gone(Sighting),
}

/// All news of all sources.
pub struct Sightings(mpsc::Receiver<News>);

/// A source's end of [`Sightings`].
#[derive(Clone)]
pub struct Spotter(mpsc::Sender<News>);

/// A stream of sightings and its first source's end; clone that for others.
pub fn sightings() -> (Spotter, Sightings) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Spotter(sender), Sightings(receiver))
}

impl Sightings {
    /// What is told next; `None` once all sources have ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<News> {
        self.0.recv().await
    }
}

impl Spotter {
    /// Passes a sighting on, when there is room.
    ///
    /// # Errors
    /// [`Refused::Ended`].
    pub async fn see(&self, sighting: Sighting) -> Result<(), Refused> {
        self.0.send(News::Seen(sighting)).await.map_err(|_| Refused::Ended)
    }

    /// Tells that a sighting holds no longer, when there is room.
    ///
    /// # Errors
    /// [`Refused::Ended`].
    pub async fn gone(&self, sighting: Sighting) -> Result<(), Refused> {
        self.0.send(News::Gone(sighting)).await.map_err(|_| Refused::Ended)
    }

    /// Passes news on in their order, when there is room.
    ///
    /// # Errors
    /// [`Refused::Ended`].
    pub async fn pass_on(&self, news: Vec<News>) -> Result<(), Refused> {
        for news in news {
            self.0.send(news).await.map_err(|_| Refused::Ended)?;
        }
        Ok(())
    }

    /// Passes a sighting on if there is room; answers whether there was.
    pub fn try_see(&self, sighting: Sighting) -> bool {
        self.0.try_send(News::Seen(sighting)).is_ok()
    }

    /// Whether nobody takes sightings any more.
    pub fn is_ended(&self) -> bool {
        self.0.is_closed()
    }

    /// Passes on the addresses of the settings, and returns those that are none with the reason. Old forms of addresses
    /// are understood too.
    ///
    /// # Errors
    /// [`Refused::Ended`].
    pub async fn seeds<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<(&'a str, Refused)>, Refused> {
        let mut wrong = Vec::new();
        for text in addresses {
            let seen = Address::from_any(text).map_err(Refused::from);
            match seen.and_then(|address| Sighting::new(address, Origin::Seed)) {
                Ok(sighting) => self.see(sighting).await?,
                Err(reason) => wrong.push((text, reason)),
            }
        }
        Ok(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn seeds_are_seen_and_wrong_ones_named() {
        let good = [format!("net:a.example:8008~shs:{KEY}"), format!("b.example:8008:@{KEY}.ed25519")];
        let seeds = [good[0].as_str(), "nonsense", &good[1], "net:c.example:8008~noauth"];
        block_on(async {
            let (spotter, mut sightings) = sightings();
            let wrong = spotter.seeds(seeds).await.unwrap();
            assert_eq!(
                wrong.iter().map(|(text, _)| *text).collect::<Vec<_>>(),
                ["nonsense", "net:c.example:8008~noauth"]
            );
            assert!(matches!(wrong[1].1, Refused::NoKey { .. }));
            drop(spotter);
            let Some(News::Seen(first)) = sightings.next().await else { panic!("nothing is seen") };
            assert_eq!((first.peer.to_string(), first.origin), (format!("@{KEY}.ed25519"), Origin::Seed));
            let Some(News::Seen(second)) = sightings.next().await else { panic!("nothing more is seen") };
            assert_eq!(second.address.to_string(), format!("net:b.example:8008~shs:{KEY}"));
            assert_eq!(sightings.next().await, None);
        });
    }

    #[test]
    fn a_flood_is_dropped_and_not_queued() {
        let (spotter, _sightings) = sightings();
        let sighting = Sighting::new(format!("net:a:1~shs:{KEY}").parse().unwrap(), Origin::Local).unwrap();
        let taken = (0..1000).filter(|_| spotter.try_see(sighting.clone())).count();
        assert_eq!(taken, WAITING);
    }

    #[test]
    fn sources_learn_that_nobody_listens() {
        let (spotter, sightings) = sightings();
        drop(sightings);
        let sighting = Sighting::new(format!("net:a:1~shs:{KEY}").parse().unwrap(), Origin::Manual).unwrap();
        assert!(!spotter.try_see(sighting.clone()));
        assert_eq!(block_on(spotter.see(sighting)), Err(Refused::Ended));
    }
}
