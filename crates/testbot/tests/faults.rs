//! Peers that are dead, mute or somebody else, and clocks that jump: noticed, told, and recovered from.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sbot::Node;
use sbot::api::Peer;
use sbot_feed::{FeedId, Keypair};
use sbot_testbot::{Setup, World};
use tokio::net::TcpListener;

const DAY: i64 = 24 * 3600 * 1000;

fn address(port: u16, id: FeedId) -> String {
    format!("net:127.0.0.1:{port}~shs:{}", &id.to_string()[1..45])
}

fn peer(node: &Node, id: FeedId) -> Option<Peer> {
    node.context().peers.list().into_iter().find(|peer| peer.key == id)
}

/// Whether dialing a peer has failed so often, for this reason.
fn failed(node: &Node, id: FeedId, times: u32, why: &str) -> bool {
    peer(node, id).is_some_and(|peer| peer.failure >= Some(times) && peer.why.contains(why))
}

/// A port that nobody listens on for the moment.
async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

fn listening_at(setup: Setup, port: u16) -> Setup {
    setup.change(|config| config.connections.net[0].port = port)
}

#[tokio::test]
async fn an_address_that_accepts_and_says_nothing_is_given_up_each_time() -> Result<()> {
    let world = World::new()?;
    let mute = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let (port, id) = (mute.local_addr()?.port(), Keypair::generate().id());
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = mute.accept().await {
            held.push(stream);
        }
    });
    let setup = world.setup("a").seed(&address(port, id));
    let node = setup.change(|config| config.timers.handshake = Duration::from_millis(200)).start().await?;
    node.until("it fails twice", |node| failed(node, id, 2, "after 2 failures in a row")).await?;
    node.is_well().await?;
    holding.abort();
    Ok(())
}

#[tokio::test]
async fn somebody_else_at_a_known_address_is_not_taken_for_the_peer() -> Result<()> {
    let world = World::new()?;
    let other = world.node("other").await?;
    let expected = Keypair::generate().id();
    let node = world.setup("a").seed(&address(other.port()?, expected)).start().await?;
    node.until("it fails", |node| failed(node, expected, 1, "after 1 failure")).await?;
    assert!(!node.is_connected(&other.id()) && peer(node.inner(), other.id()).is_none());
    node.connect(&other).await?;
    node.is_well().await?;
    other.is_well().await
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_an_error_that_says_so() -> Result<()> {
    let world = World::new()?;
    let id = Keypair::generate().id();
    let seed = format!("net:nowhere.invalid:8008~shs:{}", &id.to_string()[1..45]);
    let node = world.setup("a").seed(&seed).start().await?;
    node.until("it fails", |node| failed(node, id, 1, "nowhere.invalid")).await?;
    node.is_well().await
}

#[tokio::test]
async fn a_link_on_which_nothing_comes_any_more_is_closed_and_one_with_pings_is_not() -> Result<()> {
    let world = World::new()?;
    let node =
        world.setup("a").change(|config| config.timers.inactivity = Some(Duration::from_secs(2))).start().await?;
    let often = Duration::from_millis(200);
    let pinging = world.setup("b").change(|config| config.timers.ping = often).start().await?;
    pinging.connect(&node).await?;
    // It answers nothing, and is sent nothing.
    let mut silent = world.raw("silent", &node).await?;
    silent.until_hung_up().await?;
    node.until_disconnected(silent.id()).await?;
    assert!(node.is_connected(&pinging.id()));
    Ok(())
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_either_way_keeps_nobody_from_reconnecting() -> Result<()> {
    let world = World::new()?;
    let jump = Arc::new(AtomicI64::new(0));
    let jumped = Arc::clone(&jump);
    let system = sbot::publish::system_clock();
    let clock: sbot::publish::Clock = Arc::new(move || system() + jumped.load(Ordering::Relaxed) as f64);
    let port = free_port().await?;
    let other = listening_at(world.setup("b"), port);
    let id = world.keypair("b").id();
    let node = world.setup("a").clock(clock).seed(&address(port, id)).start().await?;
    node.until("it fails", |node| failed(node, id, 1, "after")).await?;
    jump.store(DAY, Ordering::Relaxed);
    let other = other.start().await?;
    node.until("it is connected", |node| connected(node, id)).await?;
    let other = other.stop().await;
    node.until_disconnected(id).await?;
    jump.store(-DAY, Ordering::Relaxed);
    let other = other.start().await.context("the port was taken meanwhile")?;
    node.until("it is connected again", |node| connected(node, id)).await?;
    other.is_well().await
}

fn connected(node: &Node, id: FeedId) -> bool {
    peer(node, id).is_some_and(|peer| peer.why.starts_with("connected"))
}
