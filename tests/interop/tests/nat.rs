//! Two of our nodes behind routers that translate addresses, who meet at a hub and have a relay.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use sbot_interop::{End, Host, Hub, HubKind, Internet, Nat, Relay, SbotNode, network_key, wait_until};
use serde_json::{Value, json};

/// Longest wait for a link, and for what is said over it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Posts that each of the two writes, and the length of their texts.
const POSTS: usize = 50;
const LENGTH: usize = 5000;
/// Bytes of one's posts: what goes another way is far less.
const BYTES: u64 = (POSTS * LENGTH) as u64;

/// How the two came together.
struct Met {
    /// Bytes that each sent past the relay.
    direct: [u64; 2],
    /// How many had the relay work for them.
    allocations: usize,
}

/// A node that meets others at `hub` alone, and knows the servers of the relay.
fn start(host: &Host, dir: &Path, key: &str, hub: &Hub, turn: &Value) -> Result<SbotNode> {
    std::fs::create_dir_all(dir)?;
    let config = json!({"rtc": {"hubs": [hub.url], "iceServers": turn}, "local": false});
    std::fs::write(dir.join("config"), config.to_string())?;
    SbotNode::start_on(host, dir, key)
}

/// `node` follows `other`, and writes its posts; returns the last.
fn writes(node: &mut SbotNode, other: &str) -> Result<String> {
    let mut last = node.publish(json!({"type": "contact", "contact": other, "following": true}))?;
    for _ in 0..POSTS {
        last = node.publish(json!({"type": "post", "text": "x".repeat(LENGTH)}))?;
    }
    Ok(last)
}

/// Two nodes behind such routers, who follow each other, exchange their posts.
fn meet(nat: Nat, turn: &str) -> Result<Option<Met>> {
    let Some(internet) = Internet::new(nat)? else { return Ok(None) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let Some(relay) = Relay::start_on(&internet.public, &world.path().join("relay"))? else { return Ok(None) };
    let hub = Hub::start_on(&internet.public, HubKind::Ours, &world.path().join("hub"))?;
    let servers = json!([
        {"urls": format!("stun:{}", relay.at)},
        {"urls": format!("turn:{}{turn}", relay.at), "username": Relay::USER, "credential": Relay::PASSWORD},
    ]);
    let start =
        |number: usize| start(&internet.hosts[number], &world.path().join(number.to_string()), &key, &hub, &servers);
    let (mut one, mut two) = (start(0)?, start(1)?);
    let (first, second) = (one.id.clone(), two.id.clone());
    let last = [writes(&mut one, &second)?, writes(&mut two, &first)?];
    let exchanged =
        wait_until("both have the other's posts", PATIENCE, || Ok(one.has(&last[1])? && two.has(&last[0])?));
    exchanged.map_err(|error| error.context(format!("one says:\n{}\ntwo says:\n{}", one.log(), two.log())))?;
    Ok(Some(Met { direct: [internet.direct(0)?, internet.direct(1)?], allocations: relay.allocations()? }))
}

#[test]
fn behind_routers_that_keep_ports_they_dig_a_hole() -> Result<()> {
    let Some(Met { direct, .. }) = meet(Nat::Keeping, "")? else { return Ok(()) };
    ensure!(direct.iter().all(|direct| *direct > BYTES), "{direct:?} bytes went directly");
    Ok(())
}

#[test]
fn behind_routers_that_draw_ports_the_relay_helps() -> Result<()> {
    let Some(Met { direct, allocations }) = meet(Nat::Drawing, "")? else { return Ok(()) };
    ensure!(direct.iter().all(|direct| *direct < BYTES / 2), "{direct:?} bytes went directly");
    ensure!(allocations > 0, "nobody asked the relay");
    Ok(())
}

#[test]
fn where_no_udp_gets_through_the_relay_is_reached_by_tcp() -> Result<()> {
    let Some(Met { direct, allocations }) = meet(Nat::TcpOnly, "?transport=tcp")? else { return Ok(()) };
    ensure!(direct == [0, 0], "{direct:?} bytes got through directly");
    ensure!(allocations == 2, "{allocations} of two asked the relay");
    Ok(())
}
