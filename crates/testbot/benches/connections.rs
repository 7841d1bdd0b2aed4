//! Many peers at one node, for a while: each gets a feed at first, then live messages. Memory and processor a connection,
//! and how soon a message has reached all of them.
//!
//! `cargo bench -p sbot-testbot --bench connections -- [PEERS [SECONDS [MESSAGES]]]`: 1,000 peers for 60 seconds and 300
//! messages of 4 kB at first if not said otherwise. The node is a process of its own; all is on loopback. The open files
//! allowed must be as many as the peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sbot_feed::Keypair;
use sbot_rpc::Body;
use sbot_testbot::RawPeer;
use serde_json::{Value, json};

use crate::child::Node;

mod child;

/// Time between two messages of the node.
const EVERY: Duration = Duration::from_secs(2);
/// Dials under way: the node takes 16 handshakes at a time from one address.
const AT_ONCE: usize = 12;
/// Bytes of text in each of the messages that there are at first.
const TEXT: usize = 4_000;
/// Time in which a node gives back memory that it no longer needs.
const REST: Duration = Duration::from_secs(3);
/// By then a message has reached everyone, or it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(ended) = child::run(&runtime) {
        return ended;
    }
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let peers = numbers.next().unwrap_or(1_000);
    let seconds = numbers.next().unwrap_or(60);
    let messages = numbers.next().unwrap_or(300);
    runtime.block_on(measure(peers, Duration::from_secs(seconds as u64), messages as u64))
}

/// Waits until so many messages have been received in all.
async fn until_received(received: &AtomicU64, count: u64) -> Result<()> {
    let begin = Instant::now();
    while received.load(Ordering::Relaxed) < count {
        if begin.elapsed() > PATIENCE {
            bail!("{} of {count} messages have arrived", received.load(Ordering::Relaxed));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn measure(peers: usize, held: Duration, messages: u64) -> Result<()> {
    let mut node = Node::start()?;
    let (key, id) = (node.network, node.id.clone());
    for _ in 0..messages {
        node.publish(&"x".repeat(TEXT))?;
    }
    let alone = node.memory()?;
    let received = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let room = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..peers {
        let (room, address, id) = (Arc::clone(&room), node.address.clone(), id.clone());
        let received = Arc::clone(&received);
        dials.spawn(async move {
            let _one = room.acquire_owned().await?;
            let peer = RawPeer::dial_at(&key, &Keypair::generate(), &address).await?;
            let session = peer.session();
            let wants = json!([{"version": 3, "format": "classic"}]);
            let (mut sink, mut source) = session.duplex("ebt.replicate", &wants).await?;
            sink.send(Body::json(&json!({ id: 0 }))?).await?;
            let task = tokio::spawn(async move {
                // The sink is held: dropping it would end the stream.
                let _sink = sink;
                while let Some(Ok(item)) = source.recv().await {
                    let Body::Json(json) = item else { continue };
                    if serde_json::from_slice::<Value>(&json).is_ok_and(|item| item.get("author").is_some()) {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            anyhow::Ok((session, task))
        });
    }
    let mut connected = Vec::new();
    while let Some(dialed) = dials.join_next().await {
        connected.push(dialed??);
    }
    let dialed = begin.elapsed().as_secs_f64();
    until_received(&received, messages * peers as u64).await?;
    let (all, begun) = (begin.elapsed().as_secs_f64(), node.time()?);
    println!(
        "{peers} peers connected in {dialed:.1} s, and had {messages} messages each after {all:.1} s, with {begun:.1} s of the node's processor"
    );
    let (peak, busy) = (node.peak()? as f64 / 1e6, node.memory()? as f64 / 1e6);
    tokio::time::sleep(REST).await;
    let (rested, seconds) = (node.memory()? as f64 / 1e6, REST.as_secs());
    println!(
        "memory: {peak:.1} MB at most, {busy:.1} at the end of that, {rested:.1} after {seconds} s without traffic"
    );

    println!("{:>8} {:>9} {:>12} {:>14} {:>14}", "seconds", "messages", "memory MB", "kB a peer", "all have it ms");
    let (start, mut sent, mut slowest) = (Instant::now(), 0u64, Vec::new());
    let mut told = Duration::ZERO;
    let mut memories = Vec::new();
    while start.elapsed() < held {
        let at = Instant::now();
        sent += 1;
        node.publish(&format!("message {sent}"))?;
        until_received(&received, (messages + sent) * peers as u64).await?;
        slowest.push(at.elapsed());
        let memory = node.memory()?;
        memories.push(memory);
        if start.elapsed() >= told {
            told += held / 10;
            let each = memory.saturating_sub(alone) as f64 / peers as f64 / 1e3;
            let ms = at.elapsed().as_secs_f64() * 1e3;
            let seconds = start.elapsed().as_secs();
            println!("{seconds:>8} {sent:>9} {:>12.1} {each:>14.1} {ms:>14.1}", memory as f64 / 1e6);
        }
        tokio::time::sleep(EVERY.saturating_sub(at.elapsed())).await;
    }
    let gone = connected.iter().filter(|(session, _)| session.is_closed()).count();
    slowest.sort_unstable();
    let median = slowest[slowest.len() / 2].as_secs_f64() * 1e3;
    let worst = slowest.last().copied().unwrap_or_default().as_secs_f64() * 1e3;
    let busy = (node.time()? - begun) / start.elapsed().as_secs_f64() * 100.0;
    let grown = memories.last().zip(memories.get(memories.len() / 5)).map(|(last, early)| *last as f64 - *early as f64);
    println!("a message has reached all {peers} peers after {median:.1} ms (median), {worst:.1} ms (worst of {sent})");
    println!("the node's processor: {busy:.1} % of a core; memory alone {:.1} MB", alone as f64 / 1e6);
    println!(
        "memory grew by {:.2} MB after the first fifth; {gone} connections were lost",
        grown.unwrap_or_default() / 1e6
    );
    Ok(())
}
