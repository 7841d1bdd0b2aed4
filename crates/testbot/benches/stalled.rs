//! Peers that ask for much and read nothing: what they cost in memory.
//!
//! `cargo bench -p sbot-testbot --bench stalled -- [PEERS [STREAMS]]`: 200 peers with 100 streams each if not said
//! otherwise. The feed that they ask for is larger than what the system's sockets take.

use std::time::Duration;

use anyhow::Result;
use sbot_feed::Keypair;
use sbot_rpc::{Body, Peer};
use sbot_testbot::RawPeer;
use serde_json::json;

use crate::child::Node;

mod child;

/// Messages in the feed, and bytes of text in each.
const MESSAGES: usize = 3_000;
const TEXT: usize = 4_000;
/// Time in which the node has filled all that it fills.
const SETTLE: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(ended) = child::run(&runtime) {
        return ended;
    }
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (peers, streams) = (numbers.next().unwrap_or(200), numbers.next().unwrap_or(100));
    println!("{:>40} {:>12} {:>12} {:>10}", "", "memory MB", "kB a peer", "s of cpu");
    runtime.block_on(measure("createHistoryStream, one", peers, 1, true))?;
    runtime.block_on(measure(&format!("createHistoryStream, {streams}"), peers, streams, true))?;
    runtime.block_on(measure("ebt.replicate", peers, 1, false))
}

/// Asks for the node's feed, and keeps what has to be kept for it to be sent.
async fn ask(session: &Peer, id: &str, streams: usize, history: bool) -> Result<Vec<Box<dyn Send>>> {
    let mut kept: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..streams {
        if history {
            kept.push(Box::new(session.source("createHistoryStream", &json!([{ "id": id }])).await?));
            continue;
        }
        let version = json!([{"version": 3, "format": "classic"}]);
        let (mut sink, source) = session.duplex("ebt.replicate", &version).await?;
        sink.send(Body::json(&json!({ id: 0 }))?).await?;
        kept.push(Box::new((sink, source)));
    }
    Ok(kept)
}

async fn measure(what: &str, peers: usize, streams: usize, history: bool) -> Result<()> {
    let mut node = Node::start()?;
    for _ in 0..MESSAGES {
        node.publish(&"x".repeat(TEXT))?;
    }
    let (before, begun) = (node.memory()?, node.time()?);
    let mut connected = Vec::new();
    for _ in 0..peers {
        let session = RawPeer::dial_at(&node.network, &Keypair::generate(), &node.address).await?.session();
        let kept = ask(&session, &node.id, streams, history).await?;
        connected.push((session, kept));
    }
    tokio::time::sleep(SETTLE).await;
    let (now, peak) = (node.memory()?, node.peak()?);
    let each = now.saturating_sub(before) as f64 / peers as f64 / 1e3;
    let (now, peak, time) = (now as f64 / 1e6, peak as f64 / 1e6, node.time()? - begun);
    println!("{what:>40} {now:>12.1} {each:>12.1} {time:>10.1}   at most {peak:.1} MB");
    Ok(())
}
