//! The task that announces this node in the distributed hash table and looks friends up.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use futures_util::StreamExt;
use mainline::Id;
use mainline::async_dht::AsyncDht;
use sbot_feed::{FeedId, NetworkKey};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::dht::{DhtKey, Pace, Rounds, Step};
use crate::sighting::Spotter;

/// Longest time for one request of the table. Its queries end by themselves, mostly within five seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most addresses that are read of one answer, of which there can be thousands.
const MOST_READ: usize = 64;
/// Pause before the table is tried again that could not be joined.
const PAUSE: Duration = Duration::from_secs(300);

/// What a node does in the table.
#[derive(Debug, Clone)]
pub struct DhtSettings {
    /// Who we are.
    pub own: FeedId,
    /// The network key.
    pub network: NetworkKey,
    /// The TCP port that others are to dial; without it we look up and announce nothing.
    pub port: Option<u16>,
    /// `HOST:PORT` of nodes of the table by which to join it; none for those that everybody uses.
    pub bootstrap: Vec<String>,
    /// How fast to go.
    pub pace: Pace,
    /// The table is one within this machine, and so are its peers.
    pub loopback: bool,
}

/// Announces and looks up the friends that `friends` names, until nobody takes sightings any more. `clock` is the time in ms
/// since 1970.
pub async fn run_dht(
    settings: DhtSettings,
    friends: impl Fn() -> Vec<FeedId> + Send,
    clock: impl Fn() -> u64 + Send,
    spotter: Spotter,
) {
    let DhtSettings { own, network, port, pace, loopback, .. } = settings;
    let mut rounds = Rounds::new(own, network, pace, port.is_some(), loopback);
    let Some(dht) = join(&settings, &spotter).await else { return };
    while !spotter.is_ended() {
        let (step, mut news) = rounds.next(clock(), &friends());
        match step {
            Step::Announce(keys) => {
                for key in keys {
                    let announced = timeout(PATIENCE, dht.announce_peer(Id::from(key), port)).await;
                    match announced {
                        Ok(Ok(_)) => tracing::debug!("announced in the distributed hash table"),
                        Ok(Err(error)) => tracing::debug!(%error, "not announced in the distributed hash table"),
                        Err(_) => tracing::debug!("not announced in the distributed hash table: no answer"),
                    }
                }
            }
            Step::LookUp(friend, keys) => news.extend(rounds.found(friend, look_up(&dht, &keys).await)),
            Step::Wait(pause) => sleep(Duration::from_millis(pause)).await,
        }
        if spotter.pass_on(news).await.is_err() {
            return;
        }
    }
}

/// Joins, however long that takes; `None` if nobody takes sightings any more.
async fn join(settings: &DhtSettings, spotter: &Spotter) -> Option<AsyncDht> {
    let mut failed = false;
    while !spotter.is_ended() {
        let settings = settings.clone();
        // Names are looked up in it.
        let joined = tokio::task::spawn_blocking(move || open(&settings)).await;
        match joined {
            Ok(Ok(dht)) => return Some(dht),
            // Told once, not every few minutes.
            Ok(Err(error)) if !std::mem::replace(&mut failed, true) => {
                tracing::warn!(%error, "can't join the distributed hash table");
            }
            Ok(Err(_)) => {}
            // It was broken off: the runtime ends.
            Err(_) => return None,
        }
        sleep(PAUSE).await;
    }
    None
}

fn open(settings: &DhtSettings) -> io::Result<AsyncDht> {
    let mut builder = mainline::Dht::builder();
    if !settings.bootstrap.is_empty() {
        builder.bootstrap(&settings.bootstrap);
    }
    if settings.loopback {
        builder.bind_address(Ipv4Addr::LOCALHOST);
    }
    Ok(builder.build()?.as_async())
}

/// What the table has under these keys, as far as it says so in time.
async fn look_up(dht: &AsyncDht, keys: &[DhtKey]) -> Vec<SocketAddrV4> {
    let mut found = Vec::new();
    let until = Instant::now() + PATIENCE;
    for key in keys {
        let mut answers = dht.get_peers(Id::from(*key));
        while found.len() < MOST_READ
            && let Ok(Some(some)) = timeout_at(until, answers.next()).await
        {
            found.extend(some.into_iter().take(MOST_READ - found.len()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use mainline::Testnet;

    use super::*;
    use crate::sighting::{News, Origin, sightings};

    /// Everything at once: a test has little time.
    const PACE: Pace = Pace { round: 200, least_pause: 50, announce: 500 };

    fn settings(seed: u8, port: Option<u16>, testnet: &Testnet) -> DhtSettings {
        DhtSettings {
            own: FeedId([seed; 32]),
            network: NetworkKey([7; 32]),
            port,
            bootstrap: testnet.bootstrap.clone(),
            pace: PACE,
            loopback: true,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn friends_find_each_other_and_strangers_nobody() {
        let testnet = tokio::task::spawn_blocking(|| Testnet::builder(8).build().unwrap()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        let mut heard = Vec::new();
        // The first two are friends; the third follows them on another network.
        for (seed, friends) in [(1, vec![2]), (2, vec![1]), (3, vec![1, 2])] {
            let (spotter, sightings) = sightings();
            let mut settings = settings(seed, Some(8000 + u16::from(seed)), &testnet);
            if seed == 3 {
                settings.network = NetworkKey([8; 32]);
            }
            let friends: Vec<_> = friends.into_iter().map(|seed| FeedId([seed; 32])).collect();
            let began = Instant::now();
            let clock = move || 1_700_000_000_000 + began.elapsed().as_millis() as u64;
            tasks.spawn(run_dht(settings, move || friends.clone(), clock, spotter));
            heard.push(sightings);
        }
        let [first, second, third] = &mut heard[..] else { unreachable!("three") };
        for (sightings, other) in [(first, 2), (second, 1)] {
            let news = timeout(Duration::from_secs(60), sightings.next()).await.expect("nobody is found");
            let Some(News::Seen(sighting)) = news else { panic!("{news:?}") };
            assert_eq!((sighting.peer, sighting.origin), (FeedId([other; 32]), Origin::Dht));
            let text = sighting.address.to_string();
            assert!(text.starts_with(&format!("net:127.0.0.1:800{other}~shs:")), "{text}");
        }
        tasks.shutdown().await;
        assert_eq!(third.next().await, None, "the key of another network led somewhere");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_announces_nothing_finds_others_too() {
        let testnet = tokio::task::spawn_blocking(|| Testnet::builder(8).build().unwrap()).await.unwrap();
        let (announcer, _sightings) = sightings();
        let (seeker, mut found) = sightings();
        let began = Instant::now();
        let clock = move || 1_700_000_000_000 + began.elapsed().as_millis() as u64;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(run_dht(settings(1, Some(8001), &testnet), Vec::new, clock, announcer));
        tasks.spawn(run_dht(settings(2, None, &testnet), || vec![FeedId([1; 32])], clock, seeker));
        let news = timeout(Duration::from_secs(60), found.next()).await.expect("nobody is found");
        assert!(matches!(news, Some(News::Seen(sighting)) if sighting.peer == FeedId([1; 32])));
        tasks.shutdown().await;
    }
}
