//! What the same two nodes do over TCP and over WebRTC, on loopback: replicate a log, and fetch blobs.
//!
//! `cargo bench -p sbot-testbot --bench transports -- [MESSAGES [BLOBS]]`: 50,000 messages of 100 authors and 20 blobs of
//! 4 MiB if not said otherwise, three times each in turn. Both nodes, and the hub at which they meet, are in this process.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sbot_hub::{Server, Settings};
use sbot_multiserver::HubAddress;
use sbot_testbot::feeds::Network;
use sbot_testbot::{TestNode, World, blobs};
use serde_json::json;

/// Feeds that the messages are spread over.
const AUTHORS: usize = 100;
/// Bytes of a blob.
const BLOB: usize = 4 << 20;
/// How often each is done.
const RUNS: usize = 3;
/// Longest wait for a hub to be joined.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let messages = numbers.next().unwrap_or(50_000);
    let count = numbers.next().unwrap_or(20);
    tokio::runtime::Runtime::new()?.block_on(measure(messages, count))
}

async fn measure(messages: usize, count: usize) -> Result<()> {
    let mut network = Network::new(1, AUTHORS);
    let log = network.grow(messages)?;
    let bytes: usize = log.iter().map(Bytes::len).sum();
    let hub = Server::bind("127.0.0.1:0", Settings::default()).await?;
    let address = HubAddress::parse(&format!("http://{}", hub.address()?))?;
    let hub = tokio::spawn(hub.run(std::future::pending()));
    println!("{messages} messages of {AUTHORS} authors ({} MB), {count} blobs of {} MB", mega(bytes), mega(BLOB));
    println!("{:<6} {:>12} {:>8} {:>12}", "over", "messages/s", "MB/s", "blobs, MB/s");
    for _ in 0..RUNS {
        for over in [None, Some(&address)] {
            let (replicated, fetched) = run(over, &network, &log, count).await?;
            let name = if over.is_some() { "rtc" } else { "tcp" };
            let seconds = replicated.as_secs_f64();
            println!(
                "{name:<6} {:>12.0} {:>8.1} {:>12.1}",
                messages as f64 / seconds,
                mega(bytes) / seconds,
                mega(BLOB * count) / fetched.as_secs_f64()
            );
        }
    }
    hub.abort();
    Ok(())
}

fn mega(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// How long it takes to replicate `log`, and to fetch `count` blobs.
async fn run(hub: Option<&HubAddress>, network: &Network, log: &[Bytes], count: usize) -> Result<(Duration, Duration)> {
    let world = World::new()?;
    let node = |name| {
        let setup = world.setup(name).change(|config| {
            config.rtc.hubs = hub.cloned().into_iter().collect();
            // Else no hub is joined.
            config.peers.autostart = true;
        });
        setup.start()
    };
    let (from, to) = (node("from").await?, node("to").await?);
    from.take_in(log.to_vec()).await?;
    for node in [&from, &to] {
        for feed in network.ids() {
            node.call("replicate.request", &json!([feed, true])).await?;
        }
    }
    let address = match hub {
        Some(hub) => hub.route(&from.id()).to_string(),
        None => from.address()?,
    };
    let began = connect(&to, &address).await?;
    to.until_len(log.len() as u64).await?;
    let replicated = began.elapsed();

    let mut ids = Vec::new();
    for seed in 0..count {
        ids.push(blobs::add(&from, &blobs::bytes(BLOB, seed as u64)).await?);
    }
    let began = Instant::now();
    futures_util::future::try_join_all(ids.iter().map(|id| blobs::want(&to, id))).await?;
    let fetched = began.elapsed();
    from.stop().await;
    to.stop().await;
    Ok((replicated, fetched))
}

/// Dials as soon as that is possible, and says when the connection was up.
async fn connect(from: &TestNode, address: &str) -> Result<Instant> {
    let began = Instant::now();
    loop {
        match from.call("conn.connect", &json!([address])).await {
            Ok(_) => return Ok(Instant::now()),
            Err(error) if began.elapsed() > PATIENCE => return Err(error).context(address.to_owned()),
            // The hub isn't joined yet.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
