//! Our node and peers over WebRTC that aren't ours: werift, and a page in Chromium with simple-peer. They meet at a hub.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_interop::{End, Hub, HubKind, JsPeer, Kind, SbotNode, chromium, network_key, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for a link, its end, and what is said over it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages of a feed.
const MESSAGES: u64 = 1000;

/// How many messages of `feed` the node has.
fn messages(node: &SbotNode, feed: &str) -> Result<u64> {
    Ok(node.call("getVectorClock", json!([]))?[feed].as_u64().unwrap_or(0))
}

/// Whether the node is connected to the peer with this key.
fn is_connected(node: &SbotNode, key: &str) -> Result<bool> {
    let peers = node.call("gossip.peers", json!([]))?;
    let mut peers = peers.as_array().into_iter().flatten();
    Ok(peers.any(|peer| peer["key"] == key && peer["state"] == "connected"))
}

/// What `peer` is answered when it calls `whoami` at the other end of its link with `id`.
fn whoami(peer: &mut JsPeer, id: &str) -> Result<Value> {
    peer.ask(json!({"do": "ask", "to": id, "method": "whoami"}))
}

/// `peer` reads `feed` from the other end of its link with `id`, and checks each message: their number.
fn reads(peer: &mut JsPeer, id: &str, feed: &str) -> Result<u64> {
    peer.ask(json!({"do": "history", "to": id, "feed": feed}))?.as_u64().context("no number")
}

/// Whether the link of `peer` with `id` is one that it has dialed.
fn dialed(peer: &mut JsPeer, id: &str) -> Result<bool> {
    peer.ask(json!({"do": "dialed", "to": id}))?.as_bool().context("no answer")
}

/// Our node, and two peers of one kind that meet it at a hub: the second is its master.
struct World {
    node: SbotNode,
    peer: JsPeer,
    master: JsPeer,
    hub: Hub,
    _dir: TempDir,
}

impl World {
    fn new(kind: Kind, hub: HubKind, words: &[&str]) -> Result<Self> {
        let (key, dir) = (network_key()?, tempfile::tempdir()?);
        let hub = Hub::start(hub, &dir.path().join("hub"))?;
        let start = |name: &str| JsPeer::start_rtc(kind, &dir.path().join(name), &key, &hub.url, words);
        let (mut peer, mut master) = (start("peer")?, start("master")?);
        // A node that connects to nobody of itself stays away from hubs, too.
        let settings = ["--conn.autostart", "true", "--rtc.hubs", &hub.url, "--master", &master.id];
        let node = SbotNode::start_with(&dir.path().join("sbot"), &key, &settings)?;
        for peer in [&mut peer, &mut master] {
            wait_until("it hears of us", PATIENCE, || {
                let heard = peer.ask(json!({"do": "heard"}))?;
                Ok(heard.as_array().is_some_and(|heard| heard.contains(&json!(node.id))))
            })?;
        }
        Ok(Self { node, peer, master, hub, _dir: dir })
    }

    /// We dial it, and fetch its feed.
    fn we_dial(&mut self) -> Result<()> {
        let Self { node, peer, .. } = self;
        peer.ask(json!({"do": "append", "count": MESSAGES}))?;
        node.want(std::slice::from_ref(&peer.id))?;
        node.call("conn.connect", json!([peer.address]))?;
        wait_until("its feed is here", PATIENCE, || Ok(messages(node, &peer.id)? == MESSAGES))?;
        peer.ask(json!({"do": "wait", "to": node.id}))?;
        ensure!(!dialed(peer, &node.id)?, "it has dialed us");
        let asked = peer.ask(json!({"do": "asked"}))?;
        let asked = asked.as_array().context("no list")?;
        ensure!(asked.contains(&json!("ebt.replicate")) && asked.contains(&json!("createHistoryStream")), "{asked:?}");
        peer.ask(json!({"do": "append", "count": 1}))?;
        wait_until("a new message comes by itself", PATIENCE, || Ok(messages(node, &peer.id)? == MESSAGES + 1))?;
        node.call("conn.disconnect", json!([peer.address]))?;
        peer.ask(json!({"do": "ended", "to": node.id}))?;
        Ok(())
    }

    /// It dials us, a stranger, reads what all may read, and tells us something new.
    fn it_dials(&mut self) -> Result<()> {
        let Self { node, peer, .. } = self;
        peer.ask(json!({"do": "dial", "to": node.id}))?;
        ensure!(dialed(peer, &node.id)?, "we have dialed it");
        let refusal = whoami(peer, &node.id)?;
        let text = refusal["refusal"].as_str().unwrap_or_default();
        ensure!(text.contains("method:whoami") && text.contains("you are stranger"), "{refusal}");
        let own = peer.id.clone();
        let read = reads(peer, &node.id, &own)?;
        ensure!(read == MESSAGES + 1, "{read} messages");
        peer.ask(json!({"do": "append", "count": 1}))?;
        wait_until("a new message comes this way too", PATIENCE, || Ok(messages(node, &peer.id)? == MESSAGES + 2))?;
        peer.ask(json!({"do": "hangup", "to": node.id}))?;
        wait_until("we notice that it hangs up", PATIENCE, || Ok(!is_connected(node, &peer.id)?))?;
        Ok(())
    }

    /// Two offers that cross make one link.
    fn both_at_once(&mut self) -> Result<()> {
        let Self { node, peer, .. } = self;
        let address = peer.address.clone();
        std::thread::scope(|scope| {
            // It may be told that the connection comes from the other side.
            scope.spawn(|| node.call("conn.connect", json!([address])));
            peer.ask(json!({"do": "dial", "to": node.id}))
        })?;
        ensure!(whoami(peer, &node.id)?["refusal"].is_string(), "the link is dead");
        wait_until("both ends are connected", PATIENCE, || is_connected(node, &peer.id))?;
        Ok(())
    }

    /// The master may call everything, whoever has dialed.
    fn the_master(&mut self) -> Result<()> {
        let Self { node, peer, master, .. } = self;
        master.ask(json!({"do": "dial", "to": node.id}))?;
        ensure!(whoami(master, &node.id)?["value"]["id"] == json!(node.id), "it isn't told who we are");
        let read = reads(master, &node.id, &peer.id)?;
        ensure!(read == MESSAGES + 2, "{read} messages");
        master.ask(json!({"do": "hangup", "to": node.id}))?;
        node.call("conn.connect", json!([master.address]))?;
        master.ask(json!({"do": "wait", "to": node.id}))?;
        ensure!(!dialed(master, &node.id)?, "it has dialed us");
        ensure!(whoami(master, &node.id)?["value"]["id"] == json!(node.id), "it isn't told who we are now");
        Ok(())
    }

    /// They go: each is missed.
    fn all_go(self) -> Result<()> {
        let Self { node, peer, master, hub, _dir } = self;
        for peer in [peer, master] {
            let id = peer.id.clone();
            peer.stop()?;
            wait_until("we notice that it is gone", PATIENCE, || Ok(!is_connected(&node, &id)?))?;
        }
        node.stop()?;
        hub.stop()
    }
}

/// We dial it, it dials us, and both do what peers do.
fn both_ways(kind: Kind, hub: HubKind, words: &[&str]) -> Result<()> {
    let mut world = World::new(kind, hub, words)?;
    world.we_dial().with_context(|| world.node.log())?;
    world.it_dials().with_context(|| world.node.log())?;
    world.both_at_once().with_context(|| world.node.log())?;
    world.the_master().with_context(|| world.node.log())?;
    world.all_go()
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
