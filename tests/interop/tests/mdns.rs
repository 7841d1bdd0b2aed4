//! Peers that find each other by multicast DNS alone, each on a host of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_interop::{End, Host, JsPeer, Kind, Lan, SbotNode, network_key, wait_until};
use serde_json::{Value, json};

/// Longest wait for a peer to be found, and for its goodbye to be heard. Without a goodbye the records stay for 75 minutes
/// (bonjour-service), or the addresses for two.
const FOUND: Duration = Duration::from_secs(30);

/// A node that neither broadcasts nor hears broadcasts.
fn start(host: &Host, dir: &std::path::Path, key: &str) -> Result<SbotNode> {
    SbotNode::start_on_with(host, dir, key, &["--", "--local", "false", "--mdns", "true"])
}

/// How `node` has the peer with this key, if it knows it.
fn known(node: &SbotNode, key: &str) -> Result<Option<Value>> {
    let peers = node.call("gossip.peers", json!([]))?;
    Ok(peers.as_array().into_iter().flatten().find(|peer| peer["key"] == key).cloned())
}

/// Two of ours find each other, replicate, and one says goodbye.
fn two_of_ours(lan: Option<(Lan, Vec<Host>)>) -> Result<()> {
    let Some((_lan, hosts)) = lan else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut one = start(&hosts[0], &world.path().join("one"), &key)?;
    let mut two = start(&hosts[1], &world.path().join("two"), &key)?;
    wait_until("both are seen", FOUND, || Ok(known(&one, &two.id)?.is_some() && known(&two, &one.id)?.is_some()))?;
    let seen = known(&one, &two.id)?.unwrap_or_default();
    let host = seen["host"].as_str().unwrap_or_default();
    ensure!(seen["source"] == "local" && host.starts_with(&hosts[1].ip) && seen["state"].is_null(), "{seen}");
    ensure!(known(&one, &one.id)?.is_none(), "a node found itself");

    let follow = |who: &str| json!({"type": "contact", "contact": who, "following": true});
    let posts = [one.publish(follow(&two.id))?, two.publish(follow(&one.id))?];
    wait_until("both have the other's message", FOUND, || Ok(one.has(&posts[1])? && two.has(&posts[0])?))?;

    let id = two.id.clone();
    two.stop()?;
    wait_until("one that said goodbye is forgotten", FOUND, || Ok(known(&one, &id)?.is_none()))?;
    Ok(())
}

#[test]
fn two_of_ours_find_each_other_and_say_goodbye() -> Result<()> {
    two_of_ours(Lan::new(2))
}

#[test]
fn so_they_do_where_there_is_nothing_but_addresses_of_one_link() -> Result<()> {
    two_of_ours(Lan::ipv6(2, false))
}

#[test]
fn bonjour_service_and_we_find_each_other_and_say_goodbye() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(2) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut theirs = JsPeer::start_on(&hosts[0], Kind::Mdns, &world.path().join("theirs"), &key)?;
    let ours = start(&hosts[1], &world.path().join("ours"), &key)?;
    wait_until("we see it", FOUND, || Ok(known(&ours, &theirs.id)?.is_some()))?;
    let seen = known(&ours, &theirs.id)?.unwrap_or_default();
    ensure!(seen["host"] == json!(hosts[0].ip) && seen["port"] == 8008 && seen["source"] == "local", "{seen}");

    let found = |theirs: &mut JsPeer| -> Result<Option<Value>> {
        theirs.ask(json!({"do": "search"}))?;
        let found = theirs.ask(json!({"do": "found"}))?;
        Ok(found.as_array().into_iter().flatten().find(|one| one["txt"]["key"] == json!(ours.id)).cloned())
    };
    wait_until("it sees us", FOUND, || Ok(found(&mut theirs)?.is_some()))?;
    let us = found(&mut theirs)?.context("gone again")?;
    ensure!(us["port"] == 8008 && us["addresses"] == json!([hosts[1].ip]), "{us}");
    ensure!(us["txt"]["address"] == json!(ours.address), "{us}");

    let id = theirs.id.clone();
    theirs.stop()?;
    wait_until("it is forgotten", FOUND, || Ok(known(&ours, &id)?.is_none()))?;
    let mut theirs = JsPeer::start_on(&hosts[0], Kind::Mdns, &world.path().join("again"), &key)?;
    wait_until("it sees us again", FOUND, || {
        theirs.ask(json!({"do": "search"}))?;
        Ok(!theirs
            .ask(json!({"do": "found"}))?
            .as_array()
            .is_none_or(|all| all.iter().all(|one| one["name"] == "another")))
    })?;
    ours.stop()?;
    wait_until("it forgets us", FOUND, || {
        let found = theirs.ask(json!({"do": "found"}))?;
        Ok(found.as_array().is_some_and(|all| all.iter().all(|one| one["name"] == "another")))
    })?;
    Ok(())
}

#[test]
fn one_with_a_new_address_is_found_there() -> Result<()> {
    let Some((_lan, mut hosts)) = Lan::new(2) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let one = start(&hosts[0], &world.path().join("one"), &key)?;
    let two = start(&hosts[1], &world.path().join("two"), &key)?;
    let host = || Ok::<_, anyhow::Error>(known(&one, &two.id)?.unwrap_or_default()["host"].clone());
    wait_until("one is seen", FOUND, || Ok(host()? == json!(hosts[1].ip)))?;
    hosts[1].renumber("10.77.0.99")?;
    wait_until("it is seen at its new address", FOUND, || Ok(host()? == json!(hosts[1].ip)))?;
    Ok(())
}

#[test]
fn a_flood_of_services_is_not_kept() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(2) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut theirs = JsPeer::start_on(&hosts[0], Kind::Mdns, &world.path().join("theirs"), &key)?;
    let ours = start(&hosts[1], &world.path().join("ours"), &key)?;
    wait_until("we see the one that is there", FOUND, || Ok(known(&ours, &theirs.id)?.is_some()))?;
    wait_until("the records are thrown away", 3 * FOUND, || {
        theirs.ask(json!({"do": "flood", "count": 1000}))?;
        Ok(ours.log().contains("multicast DNS is started anew"))
    })?;
    wait_until("all are forgotten", FOUND, || Ok(known(&ours, &theirs.id)?.is_none()))?;
    // It begins again after half a minute.
    wait_until("we see the one that is there again", 3 * FOUND, || Ok(known(&ours, &theirs.id)?.is_some()))?;
    Ok(())
}
