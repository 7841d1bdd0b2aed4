//! Two of our nodes that can't dial each other, and meet at a signalling hub.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_interop::{End, Hub, HubKind, Network, SbotNode, Spec, network_key, wait_until};
use serde_json::{Value, json};

/// Longest wait for a link, and for what is said over it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest exchange of all messages.
const EXCHANGE: Duration = Duration::from_secs(240);
/// Messages that each has and the other hasn't.
const EACH: usize = 10_000;

/// Two logs of which neither has a feed of the other.
fn halves(network: &Network, dir: &Path) -> Result<[PathBuf; 2]> {
    let paths = [dir.join("one.jsonl"), dir.join("two.jsonl")];
    let mut files = Vec::new();
    for path in &paths {
        files.push(std::io::BufWriter::new(std::fs::File::create(path)?));
    }
    for line in std::fs::read_to_string(network.log())?.lines() {
        let message: Value = serde_json::from_str(line)?;
        let author = message["value"]["author"].as_str().context("no author")?;
        let at = network.authors.iter().position(|known| known == author).context("an unknown author")?;
        writeln!(files[at % 2], "{line}")?;
    }
    files.iter_mut().try_for_each(Write::flush)?;
    Ok(paths)
}

/// A node with a log that meets others at `hub` alone.
fn node(dir: &Path, key: &str, log: Option<&Path>, hub: &str) -> Result<SbotNode> {
    if let Some(log) = log {
        SbotNode::import(dir, key, log)?;
    }
    SbotNode::start_with(dir, key, &["--conn.autostart", "true", "--rtc.hubs", hub])
}

/// How `node` has the peer with this key, if it is connected.
fn link(node: &SbotNode, key: &str) -> Result<Option<Value>> {
    let peers = node.call("gossip.peers", json!([]))?;
    let mut peers = peers.as_array().into_iter().flatten();
    Ok(peers.find(|peer| peer["key"] == key && peer["state"] == "connected").cloned())
}

/// The only hub of `node`.
fn hub_of(node: &SbotNode) -> Result<Value> {
    Ok(node.call("hubs.ls", json!([]))?[0].take())
}

fn is_there(node: &SbotNode, key: &str) -> Result<bool> {
    let hub = hub_of(node)?;
    Ok(hub["state"] == "connected" && hub["peers"].as_array().into_iter().flatten().any(|peer| peer["key"] == key))
}

fn two_nodes_meet(kind: HubKind) -> Result<()> {
    let network = Network::get(Spec { messages: 2 * EACH, authors: 200, blocks: false })?;
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let hub = Hub::start(kind, world.path())?;
    let [first, second] = halves(&network, world.path())?;
    let mut one = node(&world.path().join("one"), &key, Some(&first), &hub.url)?;
    let mut two = node(&world.path().join("two"), &key, Some(&second), &hub.url)?;
    let before = (one.total()?, two.total()?);
    ensure!(before.0 + before.1 == network.messages, "{before:?}");

    // Whom one follows is dialed.
    let follow = |who: &str| json!({"type": "contact", "contact": who, "following": true});
    one.publish(follow(&two.id))?;
    two.publish(follow(&one.id))?;
    let ids = (one.id.clone(), two.id.clone());
    for (node, other) in [(&mut one, &ids.1), (&mut two, &ids.0)] {
        wait_until("they are connected", PATIENCE, || Ok(link(node, other)?.is_some())).with_context(|| node.log())?;
        let link = link(node, other)?.context("gone again")?;
        let address = link["address"].as_str().unwrap_or_default();
        ensure!(address.starts_with("rtc:http:127.0.0.1:"), "{link}");
        node.want(&network.authors)?;
    }
    let all = network.messages + 2;
    wait_until("both have all", EXCHANGE, || Ok(one.total()? == all && two.total()? == all))
        .with_context(|| one.log())?;
    ensure!(one.tips()? == two.tips()?, "they have something else");

    let port = hub.port;
    drop(hub);
    for node in [&one, &two] {
        wait_until("the hub's end is noticed", PATIENCE, || Ok(hub_of(node)?["state"] != "connected"))?;
    }
    let post = one.publish(json!({"type": "post", "text": "without a hub"}))?;
    wait_until("the link lives on", PATIENCE, || two.has(&post))?;
    ensure!(link(&one, &two.id)?.is_some() && link(&two, &one.id)?.is_some(), "the link was made anew");

    let hub = Hub::start_at(kind, world.path(), port, &[])?;
    wait_until("they announce themselves again", PATIENCE, || Ok(is_there(&one, &two.id)? && is_there(&two, &one.id)?))
        .with_context(|| one.log())?;
    let id = two.id.clone();
    two.stop()?;
    wait_until("its goodbye is heard", PATIENCE, || Ok(!is_there(&one, &id)? && link(&one, &id)?.is_none()))?;
    one.stop()?;
    hub.stop()
}

#[test]
fn two_nodes_meet_at_npms_hub_and_replicate() -> Result<()> {
    two_nodes_meet(HubKind::Npm)
}

#[test]
fn two_nodes_meet_at_our_hub_and_replicate() -> Result<()> {
    two_nodes_meet(HubKind::Ours)
}

#[test]
fn peers_at_two_hubs_have_one_link_and_meet_again_when_one_hub_is_gone() -> Result<()> {
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let hubs = [Hub::start(HubKind::Npm, world.path())?, Hub::start(HubKind::Ours, &world.path().join("ours"))?];
    let mut one = node(&world.path().join("one"), &key, None, &hubs[0].url)?;
    let mut two = node(&world.path().join("two"), &key, None, &hubs[0].url)?;
    for node in [&one, &two] {
        node.call("hubs.add", json!([hubs[1].url]))?;
    }
    let seen_at_both = |node: &SbotNode, other: &str| -> Result<bool> {
        let all = node.call("hubs.ls", json!([]))?;
        let there = |hub: &Value| hub["peers"].as_array().into_iter().flatten().any(|peer| peer["key"] == other);
        Ok(all.as_array().into_iter().flatten().filter(|hub| there(hub)).count() == 2)
    };
    wait_until("they see each other at both", PATIENCE, || {
        Ok(seen_at_both(&one, &two.id)? && seen_at_both(&two, &one.id)?)
    })?;
    // Nobody dials strangers.
    ensure!(link(&one, &two.id)?.is_none(), "a stranger was dialed");
    let follow = |who: &str| json!({"type": "contact", "contact": who, "following": true});
    let (first, second) = (one.publish(follow(&two.id))?, two.publish(follow(&one.id))?);
    wait_until("both follows arrive", PATIENCE, || Ok(one.has(&second)? && two.has(&first)?))
        .with_context(|| one.log())?;
    let address = |node: &SbotNode, other: &str| -> Result<String> {
        Ok(link(node, other)?.and_then(|link| Some(link["address"].as_str()?.to_owned())).unwrap_or_default())
    };
    let mut used = String::new();
    // If each has dialed the other, one of the two links has to go.
    wait_until("they have one link", PATIENCE, || {
        used = address(&one, &two.id)?;
        Ok(!used.is_empty() && address(&two, &one.id)?.split('~').next() == used.split('~').next())
    })?;
    let (gone, left): (Vec<_>, Vec<_>) = hubs.into_iter().partition(|hub| used.contains(&format!(":{}~", hub.port)));
    ensure!(gone.len() == 1, "{used} is at no hub");
    drop(gone);
    // As after a change of the network: every link is taken for dead.
    one.call("gossip.reconnect", json!([]))?;
    let port = format!(":{}~", left[0].port);
    wait_until("they meet at the other hub", PATIENCE, || Ok(address(&one, &two.id)?.contains(&port)))
        .with_context(|| one.log())?;
    two.stop()?;
    one.stop()
}

#[test]
fn hubs_are_used_and_left_while_a_node_runs_and_those_added_by_hand_outlive_it() -> Result<()> {
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let (config, by_hand) =
        (Hub::start(HubKind::Ours, world.path())?, Hub::start(HubKind::Ours, &world.path().join("by hand"))?);
    let dir = world.path().join("node");
    let started = node(&dir, &key, None, &config.url)?;
    ensure!(started.call("hubs.add", json!([by_hand.url]))? == true, "it is known already");
    ensure!(started.call("hubs.add", json!([by_hand.url]))? == false, "it isn't known");
    let states = |node: &SbotNode| -> Result<Vec<(Value, Value)>> {
        let hubs = node.call("hubs.ls", json!([]))?;
        let mut states: Vec<_> =
            hubs.as_array().into_iter().flatten().map(|hub| (hub["source"].clone(), hub["state"].clone())).collect();
        states.sort_by_key(|(source, _)| source.to_string());
        Ok(states)
    };
    let both = [(json!("config"), json!("connected")), (json!("manual"), json!("connected"))];
    wait_until("both are connected", PATIENCE, || Ok(states(&started)? == both))?;
    started.stop()?;
    let again = node(&dir, &key, None, &config.url)?;
    wait_until("both are connected again", PATIENCE, || Ok(states(&again)? == both))?;
    let listed = SbotNode::run(&dir, &key, &["hubs"])?;
    ensure!(listed.contains(&config.url) && listed.lines().count() == 3, "{listed}");
    let removed = SbotNode::run(&dir, &key, &["hubs", "rm", &by_hand.url])?;
    ensure!(removed.contains("is used no longer"), "{removed}");
    wait_until("one is left", PATIENCE, || Ok(states(&again)? == both[..1]))?;
    again.stop()?;
    // Nor is one that is no longer in the settings.
    let without = SbotNode::start(&dir, &key)?;
    ensure!(without.call("hubs.ls", json!([]))? == json!([]), "a hub is left over");
    without.stop()
}

#[test]
fn hubs_that_are_none_are_tried_ever_more_rarely_and_a_good_one_is_used_meanwhile() -> Result<()> {
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let good = Hub::start(HubKind::Ours, world.path())?;
    // Accepts and says nothing; ends every connection at once; isn't there.
    let (silent, fickle) = (std::net::TcpListener::bind("127.0.0.1:0")?, std::net::TcpListener::bind("127.0.0.1:0")?);
    let (silent_port, fickle_port) = (silent.local_addr()?.port(), fickle.local_addr()?.port());
    std::thread::spawn(move || fickle.incoming().for_each(drop));
    let node = node(&world.path().join("node"), &key, None, &good.url)?;
    for port in [silent_port, fickle_port, 1] {
        node.call("hubs.add", json!([format!("http://127.0.0.1:{port}")]))?;
    }
    let hub = |port: u16| -> Result<Value> {
        let hubs = node.call("hubs.ls", json!([]))?;
        let named = |hub: &&Value| hub["hub"].as_str().is_some_and(|hub| hub.ends_with(&format!(":{port}")));
        hubs.as_array().into_iter().flatten().find(named).cloned().context("it is not known")
    };
    for (port, error) in [(silent_port, "no answer within"), (fickle_port, "connection"), (1, "refused")] {
        wait_until("it fails", PATIENCE, || Ok(hub(port)?["failures"].as_u64() >= Some(1)))?;
        let hub = hub(port)?;
        ensure!(hub["error"].as_str().is_some_and(|why| why.contains(error)), "{hub}");
    }
    wait_until("pauses grow", PATIENCE, || {
        let hub = hub(fickle_port)?;
        let pause = hub["nextTry"].as_f64().unwrap_or_default() - hub["stateChange"].as_f64().unwrap_or_default();
        Ok(hub["failures"].as_u64() >= Some(3) && pause >= 2_000.0)
    })?;
    wait_until("the good one is connected", PATIENCE, || Ok(hub(good.port)?["state"] == "connected"))?;
    // Told once a hub, not each time.
    let told = node.log().matches("can't be used").count();
    ensure!(told == 3, "{told} lines:\n{}", node.log());
    node.stop()
}
