//! Nodes at a signalling hub: after a sleep, and at a hub that never keeps anybody.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use sbot::system_uptime;
use sbot_hub::{Server, Settings};
use sbot_multiserver::HubAddress;
use sbot_testbot::{Setup, TestNode, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A day, in ms.
const DAY: u64 = 86_400_000;

/// With a hub as the only place to meet.
fn at(setup: Setup, port: u16) -> Setup {
    setup.change(|config| {
        config.peers.autostart = true;
        config.rtc.hubs.extend(HubAddress::parse(&format!("http://127.0.0.1:{port}")));
    })
}

/// Since when `node` is connected with `peer` over WebRTC.
async fn connected_since(node: &TestNode, peer: &TestNode) -> Result<Option<f64>> {
    let (peers, key) = (node.call("gossip.peers", &json!([])).await?, peer.id().to_string());
    let found = peers.as_array().into_iter().flatten().find(|peer| peer["key"] == key && peer["state"] == "connected");
    let Some(found) = found else { return Ok(None) };
    ensure!(found["address"].as_str().is_some_and(|address| address.starts_with("rtc:http:127.0.0.1:")), "{found}");
    Ok(found["stateChange"].as_f64())
}

async fn hub_of(node: &TestNode) -> Result<Value> {
    Ok(node.call("hubs.ls", &json!([])).await?[0].take())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_made_at_a_hub_is_closed_when_a_machine_has_slept_and_made_anew() -> Result<()> {
    let world = World::new()?;
    let hub = Server::bind("127.0.0.1:0", Settings::default()).await?;
    let port = hub.address()?.port();
    let hub = tokio::spawn(hub.run(pending()));
    let (slept, really) = (Arc::new(AtomicU64::new(0)), system_uptime());
    let sleeper = Arc::clone(&slept);
    let a = at(world.setup("a"), port).uptime(Arc::new(move || really() + sleeper.load(Ordering::Relaxed)));
    let (a, b) = (a.start().await?, at(world.setup("b"), port).start().await?);
    a.follow(&b).await?;
    b.follow(&a).await?;
    for (node, other) in [(&a, &b), (&b, &a)] {
        node.until_found("there is a link", async || connected_since(node, other).await).await?;
    }
    let first = connected_since(&b, &a).await?;

    slept.store(DAY, Ordering::Relaxed);
    // The other end, whose machine has not slept, notices the end of the one and the beginning of the other.
    let second = async || Ok(connected_since(&b, &a).await?.filter(|since| Some(*since) != first));
    b.until_found("there is a second link", second).await?;
    a.until_found("there is a second link", async || connected_since(&a, &b).await).await?;
    a.until_found("the hub is joined", async || Ok((hub_of(&a).await?["state"] == "connected").then_some(()))).await?;
    a.posts(1).await?;
    b.until_has(a.id(), 2).await?;
    hub.abort();
    Ok(())
}

/// Lets everybody in, and hangs up a moment later.
async fn let_in_and_hang_up(mut stream: TcpStream) -> Result<()> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).await?;
    if request[..length].starts_with(b"GET ") {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n:welcome\n\n";
        stream.write_all(head.as_bytes()).await?;
        sleep(Duration::from_millis(300)).await;
    } else {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    }
    Ok(stream.shutdown().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_lets_everybody_in_and_hangs_up_is_joined_ever_more_rarely() -> Result<()> {
    let world = World::new()?;
    let hub = TcpListener::bind("127.0.0.1:0").await?;
    let port = hub.local_addr()?.port();
    let hub = tokio::spawn(async move {
        while let Ok((stream, _)) = hub.accept().await {
            tokio::spawn(let_in_and_hang_up(stream));
        }
    });
    let node = at(world.setup("a"), port).start().await?;
    let pause = async || {
        let hub = hub_of(&node).await?;
        let times = [&hub["nextTry"], &hub["stateChange"]].map(|time| time.as_f64().unwrap_or_default());
        Ok((hub["failures"].as_u64() >= Some(3) && times[0] > 0.0).then_some(times[0] - times[1]))
    };
    let pause = node.until_found("the hub fails a third time", pause).await?;
    ensure!(pause >= 8_000.0, "after three failures it waits for {pause} ms");
    hub.abort();
    node.is_well().await
}
