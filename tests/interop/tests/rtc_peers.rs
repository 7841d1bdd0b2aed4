//! Our node and peers over WebRTC that aren't ours: werift, and a page in Chromium with simple-peer. They meet at a hub.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_interop::{End, Hub, HubKind, JsPeer, Kind, SbotNode, chromium, network_key, wait_until};
use serde_json::{Value, json};

/// Longest wait for a link, its end, and what is said over it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages of a feed.
const MESSAGES: u64 = 1000;

/// How many messages of `feed` the node has.
fn messages(node: &SbotNode, feed: &str) -> Result<u64> {
    Ok(node.call("getVectorClock", json!([]))?[feed].as_u64().unwrap_or(0))
}

/// The states of the peer with this key, of which there is one for each of its addresses.
fn is_connected(node: &SbotNode, key: &str) -> Result<bool> {
    let peers = node.call("gossip.peers", json!([]))?;
    let mut peers = peers.as_array().into_iter().flatten();
    Ok(peers.any(|peer| peer["key"] == key && peer["state"] == "connected"))
}

/// `peer` calls `whoami` at the other end of its link with `id`.
fn whoami(peer: &mut JsPeer, id: &str) -> Result<Value> {
    peer.ask(json!({"do": "ask", "to": id, "method": "whoami"}))
}

/// `peer` reads its own feed from the other end of its link with `id`, which has it from there, and checks all of it.
fn reads_back(peer: &mut JsPeer, id: &str) -> Result<u64> {
    peer.ask(json!({"do": "history", "to": id, "feed": peer.id}))?.as_u64().context("no number")
}

/// A node that meets others at `hub`, and the peer that is its master.
fn start(kind: Kind, world: &Path, hub: &Hub, words: &[&str]) -> Result<(SbotNode, JsPeer)> {
    let key = network_key()?;
    let mut peer = JsPeer::start_rtc(kind, &world.join("js"), &key, &hub.url, words)?;
    // It stays away from hubs as long as it connects to nobody of itself.
    let words = ["--conn.autostart", "true", "--rtc.hubs", &hub.url, "--master", &peer.id];
    let node = SbotNode::start_with(&world.join("sbot"), &key, &words)?;
    wait_until("it hears of us", PATIENCE, || {
        let heard = peer.ask(json!({"do": "heard"}))?;
        Ok(heard.as_array().is_some_and(|heard| heard.contains(&json!(node.id))))
    })?;
    Ok((node, peer))
}

/// We dial it, it dials us, and both do what peers do.
fn both_ways(kind: Kind, hub: HubKind, words: &[&str]) -> Result<()> {
    let world = tempfile::tempdir()?;
    let hub = Hub::start(hub, &world.path().join("hub"))?;
    let (mut node, mut peer) = start(kind, world.path(), &hub, words)?;
    let (us, them) = (node.id.clone(), peer.id.clone());
    peer.ask(json!({"do": "append", "count": MESSAGES}))?;
    node.want(std::slice::from_ref(&them))?;

    node.call("conn.connect", json!([peer.address]))?;
    wait_until("its feed is here", PATIENCE, || Ok(messages(&node, &them)? == MESSAGES))?;
    peer.ask(json!({"do": "wait", "to": us}))?;
    ensure!(peer.ask(json!({"do": "dialed", "to": us}))? == false, "it has dialed us");
    ensure!(whoami(&mut peer, &us)?["value"]["id"] == json!(us), "it isn't told who we are");
    let asked = peer.ask(json!({"do": "asked"}))?;
    let asked = asked.as_array().context("no list")?;
    ensure!(asked.contains(&json!("ebt.replicate")) && asked.contains(&json!("createHistoryStream")), "{asked:?}");
    peer.ask(json!({"do": "append", "count": 1}))?;
    wait_until("a new message comes by itself", PATIENCE, || Ok(messages(&node, &them)? == MESSAGES + 1))?;
    node.call("conn.disconnect", json!([peer.address]))?;
    peer.ask(json!({"do": "ended", "to": us}))?;

    peer.ask(json!({"do": "dial", "to": us}))?;
    ensure!(peer.ask(json!({"do": "dialed", "to": us}))? == true, "we have dialed it");
    ensure!(whoami(&mut peer, &us)?["value"]["id"] == json!(us), "it isn't told who we are");
    let read = reads_back(&mut peer, &us)?;
    ensure!(read == MESSAGES + 1, "{read} messages");
    peer.ask(json!({"do": "append", "count": 1}))?;
    wait_until("a new message comes over this link too", PATIENCE, || Ok(messages(&node, &them)? == MESSAGES + 2))?;
    peer.ask(json!({"do": "hangup", "to": us}))?;
    wait_until("we notice that it hangs up", PATIENCE, || Ok(!is_connected(&node, &them)?))?;

    both_at_once(&node, &mut peer)?;
    peer.stop()?;
    wait_until("we notice that it is gone", PATIENCE, || Ok(!is_connected(&node, &them)?))?;
    node.stop()?;
    hub.stop()
}

/// Two offers that cross make one link.
fn both_at_once(node: &SbotNode, peer: &mut JsPeer) -> Result<()> {
    let address = peer.address.clone();
    std::thread::scope(|scope| {
        // It may be told that the connection comes from the other side.
        scope.spawn(|| node.call("conn.connect", json!([address])));
        peer.ask(json!({"do": "dial", "to": node.id}))
    })?;
    ensure!(whoami(peer, &node.id)?["value"]["id"] == json!(node.id), "it isn't told who we are");
    ensure!(is_connected(node, &peer.id)?, "only one end is connected");
    Ok(())
}

#[test]
fn werift_dials_us_and_is_dialed() -> Result<()> {
    both_ways(Kind::Werift, HubKind::Npm, &[])
}

#[test]
fn so_does_a_page_with_simple_peer() -> Result<()> {
    let Some(browser) = chromium()? else { return Ok(()) };
    both_ways(Kind::Chromium, HubKind::Ours, &["--chromium", &browser.to_string_lossy()])
}

#[test]
fn so_does_a_page_that_tells_names_in_place_of_addresses() -> Result<()> {
    let Some(browser) = chromium()? else { return Ok(()) };
    both_ways(Kind::Chromium, HubKind::Npm, &["--chromium", &browser.to_string_lossy(), "--names", "yes"])
}

#[test]
fn a_stranger_is_refused_by_the_methods_name_and_reads_what_all_may_read() -> Result<()> {
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let hub = Hub::start(HubKind::Ours, &world.path().join("hub"))?;
    let words = ["--conn.autostart", "true", "--rtc.hubs", &hub.url];
    let mut node = SbotNode::start_with(&world.path().join("sbot"), &key, &words)?;
    node.publish(json!({"type": "post", "text": "for everyone"}))?;
    let mut peer = JsPeer::start_rtc(Kind::Werift, &world.path().join("js"), &key, &hub.url, &[])?;
    wait_until("it hears of us", PATIENCE, || Ok(peer.ask(json!({"do": "heard"}))? == json!([node.id])))?;
    peer.ask(json!({"do": "dial", "to": node.id}))?;
    let refusal = whoami(&mut peer, &node.id)?;
    let text = refusal["refusal"].as_str().unwrap_or_default();
    ensure!(text.contains("method:whoami") && text.contains("you are stranger"), "{refusal}");
    let read = peer.ask(json!({"do": "history", "to": node.id, "feed": node.id}))?;
    ensure!(read == 1, "{read} messages");
    Ok(())
}
