//! Peers that find each other on a local network, each on a host of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use sbot_interop::{End, JsPeer, Kind, Lan, SbotNode, network_key, wait_until};
use serde_json::{Value, json};

/// Longest wait for a peer to be found, connected and replicated: announcements come every second or two.
const FOUND: Duration = Duration::from_secs(30);
/// Longest wait for a peer to be taken for gone: it has to be silent for 10 s.
const GONE: Duration = Duration::from_secs(40);

/// Longest wait for a peer on another address: both ends may hold on to the old link for half a minute.
const ELSEWHERE: Duration = Duration::from_secs(120);

fn follow(who: &str) -> Value {
    json!({"type": "contact", "contact": who, "following": true})
}

fn block(who: &str) -> Value {
    json!({"type": "contact", "contact": who, "blocking": true})
}

/// How `node` has the peer with this key, if it knows it.
fn known(node: &SbotNode, key: &str) -> Result<Option<Value>> {
    let peers = node.call("gossip.peers", json!([]))?;
    Ok(peers.as_array().into_iter().flatten().find(|peer| peer["key"] == key).cloned())
}

/// Both follow each other, and soon have each other's posts.
fn befriended(ours: &mut SbotNode, theirs: &mut JsPeer) -> Result<()> {
    ours.publish(follow(&theirs.id))?;
    theirs.publish(follow(&ours.id))?;
    let post = |text: &str| json!({"type": "post", "text": text});
    let posts = [ours.publish(post("ahoy"))?, theirs.publish(post("ahoi"))?];
    wait_until("both have the other's post", FOUND, || Ok(ours.has(&posts[1])? && theirs.has(&posts[0])?))?;
    Ok(())
}

#[test]
fn friends_find_each_other_strangers_are_seen_and_blocked_ones_refused() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(3) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let start = |number: usize| SbotNode::start_on(&hosts[number], &world.path().join(number.to_string()), &key);
    let (mut one, mut two, mut stranger) = (start(0)?, start(1)?, start(2)?);
    let text = |text: &str| json!({"type": "post", "text": text});
    let secret = stranger.publish(text("nobody asked me"))?;

    // Seen, and no more: whoever announces is anybody.
    wait_until("all are seen", FOUND, || Ok(known(&one, &two.id)?.is_some() && known(&one, &stranger.id)?.is_some()))?;
    let seen = known(&one, &two.id)?.unwrap_or_default();
    ensure!(seen["source"] == "local" && seen["host"] == json!(hosts[1].ip), "{seen}");
    ensure!(seen["state"].is_null(), "a stranger was dialed: {seen}");

    let posts = [one.publish(text("from one"))?, two.publish(text("from two"))?];
    one.publish(follow(&two.id))?;
    two.publish(follow(&one.id))?;
    wait_until("both have the other's post", FOUND, || Ok(one.has(&posts[1])? && two.has(&posts[0])?))?;
    let connected = known(&one, &two.id)?.unwrap_or_default();
    ensure!(connected["state"] == "connected", "{connected}");

    two.publish(block(&stranger.id))?;
    stranger.publish(follow(&two.id))?;
    let address = two.address.clone();
    ensure!(stranger.connect(&address).is_err(), "a blocked peer was let in");
    ensure!(!one.has(&secret)? && !two.has(&secret)? && !stranger.has(&posts[1])?, "strangers were replicated");
    let state = known(&one, &stranger.id)?.unwrap_or_default()["state"].clone();
    ensure!(state.is_null(), "one is {state} with the stranger");

    let id = two.id.clone();
    drop(two);
    wait_until("one that has gone is forgotten", GONE, || Ok(known(&one, &id)?.is_none()))?;
    Ok(())
}

#[test]
fn ssb_server_with_ssb_local_and_we_find_each_other() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(2) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut theirs = JsPeer::start_on(&hosts[0], Kind::Classic, &world.path().join("js"), &key)?;
    let mut ours = SbotNode::start_on(&hosts[1], &world.path().join("sbot"), &key)?;
    wait_until("we see it", FOUND, || Ok(known(&ours, &theirs.id)?.is_some()))?;
    wait_until("it sees us", FOUND, || {
        let peers = theirs.ask(json!({"do": "peers"}))?;
        let us = peers.as_array().into_iter().flatten().find(|peer| peer["key"] == json!(ours.id));
        Ok(us.is_some_and(|us| us["source"] == "local" && us["address"] == json!(ours.address)))
    })?;
    befriended(&mut ours, &mut theirs)
}

#[test]
fn the_ssb_db2_stack_with_ssb_lan_and_we_find_each_other_by_signed_announcements() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(2) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut theirs = JsPeer::start_on(&hosts[0], Kind::Db2, &world.path().join("js"), &key)?;
    let mut ours = SbotNode::start_on(&hosts[1], &world.path().join("sbot"), &key)?;
    wait_until("we see it", FOUND, || Ok(known(&ours, &theirs.id)?.is_some_and(|peer| peer["source"] == "local")))?;
    wait_until("it sees us", FOUND, || {
        let staged = theirs.ask(json!({"do": "staged"}))?;
        let us = staged.as_array().into_iter().flatten().find(|peer| peer[0] == json!(ours.address));
        Ok(us.is_some_and(|us| us[1]["type"] == "lan" && us[1]["verified"] == true))
    })?;
    befriended(&mut ours, &mut theirs)
}

#[test]
fn the_search_on_the_local_network_is_switched_off_and_on_while_the_server_runs() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(2) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let start = |number: usize| SbotNode::start_on(&hosts[number], &world.path().join(number.to_string()), &key);
    let (one, two) = (start(0)?, start(1)?);
    let sees = |node: &SbotNode, other: &SbotNode| Ok::<_, anyhow::Error>(known(node, &other.id)?.is_some());
    wait_until("both see each other", FOUND, || Ok(sees(&one, &two)? && sees(&two, &one)?))?;
    one.call("gossip.disable", json!(["local"]))?;
    wait_until("neither sees the other", GONE, || Ok(!sees(&one, &two)? && !sees(&two, &one)?))?;
    one.call("gossip.enable", json!(["local"]))?;
    wait_until("both see each other again", FOUND, || Ok(sees(&one, &two)? && sees(&two, &one)?))?;
    Ok(())
}

/// Two of ours find each other over IPv6, by addresses that are good beyond the link if it is `routed`.
fn found_over_ipv6(routed: bool) -> Result<()> {
    let Some((_lan, hosts)) = Lan::ipv6(2, routed) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut one = SbotNode::start_on(&hosts[0], &world.path().join("one"), &key)?;
    let mut two = SbotNode::start_on(&hosts[1], &world.path().join("two"), &key)?;
    wait_until("one is seen", FOUND, || Ok(known(&one, &two.id)?.is_some()))?;
    let seen = known(&one, &two.id)?.unwrap_or_default();
    let zone = seen["host"].as_str().and_then(|host| host.strip_prefix(hosts[1].ip.as_str()));
    ensure!(zone.is_some_and(|zone| zone.starts_with('%') != routed) && seen["source"] == "local", "{seen}");
    one.publish(follow(&two.id))?;
    two.publish(follow(&one.id))?;
    let text = |text: &str| json!({"type": "post", "text": text});
    let posts = [one.publish(text("from one"))?, two.publish(text("from two"))?];
    wait_until("both have the other's post", FOUND, || Ok(one.has(&posts[1])? && two.has(&posts[0])?))?;
    Ok(())
}

#[test]
fn where_there_is_no_ipv4_ours_find_each_other_by_multicast() -> Result<()> {
    found_over_ipv6(true)
}

#[test]
fn so_they_do_where_addresses_are_good_on_one_link_alone() -> Result<()> {
    found_over_ipv6(false)
}

#[test]
fn a_flood_of_made_up_announcements_is_bounded_and_keeps_no_friend_from_being_found() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(3) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let start = |number: usize| SbotNode::start_on(&hosts[number], &world.path().join(number.to_string()), &key);
    let mut one = start(0)?;
    let mut flood = hosts[2].flood(world.path(), 100_000)?;
    flood.goes_on()?;
    let mut two = start(1)?;
    one.publish(follow(&two.id))?;
    two.publish(follow(&one.id))?;
    let post = two.publish(json!({"type": "post", "text": "through the flood"}))?;
    wait_until("the friend's post", FOUND, || one.has(&post))?;
    flood.goes_on()?;
    let peers = one.call("gossip.peers", json!([]))?.as_array().map_or(0, Vec::len);
    // The friend, and the few that one sender may announce.
    ensure!((2..20).contains(&peers), "{peers} peers are known");
    let lines = one.log().lines().count();
    ensure!(lines < 100, "{lines} lines in the log");
    Ok(())
}

#[test]
fn a_host_that_changes_its_address_is_soon_connected_again() -> Result<()> {
    let Some((_lan, mut hosts)) = Lan::new(2) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let start = |number: usize| SbotNode::start_on(&hosts[number], &world.path().join(number.to_string()), &key);
    let (mut one, mut two) = (start(0)?, start(1)?);
    one.publish(follow(&two.id))?;
    two.publish(follow(&one.id))?;
    wait_until("they are connected", FOUND, || {
        Ok(known(&one, &two.id)?.is_some_and(|peer| peer["state"] == "connected"))
    })?;
    let before = known(&two, &one.id)?.unwrap_or_default();

    // Neither end hears anything of the link's end.
    hosts[0].renumber("10.77.0.50")?;
    let post = two.publish(json!({"type": "post", "text": "where are you?"}))?;
    wait_until("the post has come", ELSEWHERE, || one.has(&post))?;
    let after = known(&two, &one.id)?.unwrap_or_default();
    ensure!(after["stateChange"] != before["stateChange"], "it is still the same link: {after}");
    Ok(())
}
