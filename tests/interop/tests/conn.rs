//! `conn.*` and `gossip.*` beside ssb-conn 6 and ssb-gossip 1.1: the same calls, compared field by field; and the files in
//! which these keep their peers, taken over by our node.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_interop::{End, JsPeer, Kind, PeerAnswers, SbotNode, network_key, wait_until};
use serde_json::{Value, json};

/// Nobody listens there: port 9 is that of a service which no machine has any more.
const REFUSED: &str = "net:127.0.0.1:9~shs:YYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYY=";

/// Longest wait for a connection, and for a peer to have written its file: ssb-gossip does so every ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Their answers and ours, with the same friend to dial: of ssb-server over the unix socket, which the ssb-db2 stack has
/// none of, so that the other one is asked over tcp with its own key.
fn both(kind: Kind, calls: &str, world: &Path) -> Result<(PeerAnswers, PeerAnswers)> {
    let key = network_key()?;
    let friend = JsPeer::start(Kind::Db2, &world.join("friend"), &key, None)?;
    let theirs = {
        let server = JsPeer::start(kind, &world.join("js"), &key, None)?;
        let remote = remote(kind, &server.dir, &server.address)?;
        PeerAnswers::collect(&server.dir, &remote, &key, calls, &friend.address, REFUSED)?
    };
    // With the same identity, so that our own address is the same one.
    std::fs::create_dir_all(world.join("sbot"))?;
    std::fs::copy(world.join("js/secret"), world.join("sbot/secret"))?;
    let server = SbotNode::start(&world.join("sbot"), &key)?;
    let remote = remote(kind, &server.dir, &server.address)?;
    let ours = PeerAnswers::collect(&server.dir, &remote, &key, calls, &friend.address, REFUSED)?;
    server.stop()?;
    Ok((theirs, ours))
}

fn remote(kind: Kind, dir: &Path, address: &str) -> Result<String> {
    let public = address.rsplit(':').next().context("no key")?;
    let socket = format!("unix:{}~noauth:{public}", dir.join("socket").display());
    Ok(if kind == Kind::Db2 { address.to_owned() } else { socket })
}

/// Where we answer otherwise than ssb-gossip on purpose, and why.
fn unlike_ssb_gossip(call: &Value) -> Option<&'static str> {
    let (method, args) = (call["method"].as_str().unwrap_or_default(), &call["args"]);
    match (method, args[0].as_str(), args[1].as_str()) {
        ("gossip.add", _, Some("friends")) => Some("we dial by the graph: friends are no source of addresses"),
        ("gossip.add" | "gossip.connect", Some("nonsense!"), _) => Some("ours says what was no address as it came"),
        ("gossip.add", None, _) if args[0].is_object() && args[0]["key"].is_null() => {
            Some("it fails inside ssb-gossip")
        }
        ("gossip.connect", None, _) if args[0].is_null() => Some("it fails inside ssb-gossip"),
        ("gossip.enable" | "gossip.disable", Some("friends" | "seed"), _) => {
            Some("ours says that it can't be switched")
        }
        ("gossip.enable", None, _) => Some("ours says that there is no such kind"),
        _ => None,
    }
}

#[test]
fn our_conn_answers_as_ssb_conn_does() -> Result<()> {
    let world = tempfile::tempdir()?;
    let (theirs, ours) = both(Kind::Db2, "conn", world.path())?;
    let differences = ours.compare(&theirs, |_| None)?;
    ensure!(differences.is_empty(), "{} answers differ:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

#[test]
fn our_gossip_answers_as_ssb_gossip_does() -> Result<()> {
    let world = tempfile::tempdir()?;
    let (theirs, ours) = both(Kind::ClassicThatSurvives, "gossip", world.path())?;
    let differences = ours.compare(&theirs, unlike_ssb_gossip)?;
    ensure!(differences.is_empty(), "{} answers differ:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

/// What our node knows of an address: `conn.dbPeers`.
fn remembered(node: &SbotNode, address: &str) -> Result<Option<Value>> {
    let peers = node.call("conn.dbPeers", json!([]))?;
    Ok(peers.as_array().into_iter().flatten().find(|entry| entry[0] == address).map(|entry| entry[1].clone()))
}

#[test]
fn a_peer_that_dials_us_is_shown_by_conn_peers_and_hung_up_on_by_conn_disconnect() -> Result<()> {
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut theirs = JsPeer::start(Kind::Db2, &world.path().join("js"), &key, None)?;
    let ours = SbotNode::start(&world.path().join("sbot"), &key)?;
    theirs.connect(&ours.address)?;
    let mut shown = Value::Null;
    wait_until("it is shown", PATIENCE, || {
        shown = ours.first("conn.peers", json!([]))?[0].take();
        Ok(shown.is_array())
    })?;
    ensure!(shown[1]["key"] == json!(theirs.id) && shown[1]["state"] == "connected", "{shown}");
    ensure!(shown[1]["inferredType"] == "lan", "{shown}");
    ensure!(shown[0].as_str().is_some_and(|address| address.starts_with("net:127.0.0.1:")), "{shown}");
    ensure!(ours.call("conn.disconnect", json!([shown[0]]))? == json!(true));
    ensure!(ours.first("conn.peers", json!([]))? == json!([]));
    Ok(())
}

#[test]
fn who_is_staged_is_dialed_if_we_follow_it_and_only_shown_if_it_is_a_stranger() -> Result<()> {
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let friend = JsPeer::start(Kind::Db2, &world.path().join("js"), &key, None)?;
    let mut ours = SbotNode::start(&world.path().join("sbot"), &key)?;
    ours.publish(json!({"type": "contact", "contact": friend.id, "following": true}))?;
    ours.call("conn.start", json!([]))?;
    ensure!(ours.call("conn.stage", json!([REFUSED]))? == json!(true));
    ensure!(ours.call("conn.stage", json!([friend.address]))? == json!(true));
    wait_until("the friend is connected", PATIENCE, || {
        Ok(ours.call("gossip.get", json!([friend.id]))?["state"] == "connected")
    })?;
    let staged = ours.first("conn.stagedPeers", json!([]))?;
    ensure!(staged[0][0] == REFUSED && staged[1].is_null(), "{staged}");
    let stranger = ours.call("gossip.get", json!([staged[0][1]["key"]]))?;
    ensure!(stranger["why"] == "nobody has asked for it" && stranger["failure"].is_null(), "{stranger}");
    Ok(())
}

/// Has a peer dial a friend and an address that refuses, ends it, and starts our node on its directory.
fn taken_over(kind: Kind, world: &Path, file: &str) -> Result<()> {
    let (key, dir) = (network_key()?, world.join("shared"));
    let mut friend = JsPeer::start(Kind::Db2, &world.join("friend"), &key, None)?;
    let address = friend.address.clone();
    let mut theirs = JsPeer::start(kind, &dir, &key, None)?;
    theirs.ask(json!({"do": "remember", "address": address, "data": {"key": friend.id, "name": "a friend"}}))?;
    theirs.ask(json!({"do": "remember", "address": REFUSED, "data": {"autoconnect": false}}))?;
    theirs.connect(&address)?;
    ensure!(theirs.connect(REFUSED).is_err(), "somebody listens at {REFUSED}");
    theirs.ask(json!({"do": "disconnect", "address": address, "key": friend.id}))?;
    let written = |text: &str| {
        let text: Value = serde_json::from_str(text).ok()?;
        let of = |address: &str| match &text {
            Value::Array(all) => all.iter().find(|peer| peer["address"] == address).cloned(),
            all => all.get(address).cloned(),
        };
        (of(&address)?["duration"]["count"].as_u64()? > 0 && of(REFUSED)?["failure"].as_u64()? == 1).then_some(())
    };
    wait_until("it has written its peers", PATIENCE, || {
        Ok(std::fs::read_to_string(dir.join(file)).is_ok_and(|text| written(&text).is_some()))
    })?;
    theirs.stop()?;
    let before = std::fs::read(dir.join(file))?;

    let ours = SbotNode::start(&dir, &key)?;
    let known = remembered(&ours, &address)?.context("the friend is not known")?;
    ensure!(known["key"] == json!(friend.id) && known["duration"]["count"].as_u64() >= Some(1), "{known}");
    ensure!(known["source"] == "stored" && known["failure"] == 0, "{known}");
    let refused = remembered(&ours, REFUSED)?.context("the other one is not known")?;
    ensure!(refused["failure"] == 1, "{refused}");
    if kind == Kind::Db2 {
        ensure!(known["name"] == "a friend" && refused["autoconnect"] == false, "{known} {refused}");
    }
    // Both are there again after a restart, one that was forgotten isn't, and the file is theirs alone.
    ours.call("conn.forget", json!([REFUSED]))?;
    ours.stop()?;
    let ours = SbotNode::start(&dir, &key)?;
    ensure!(remembered(&ours, &address)?.is_some(), "the friend is forgotten after a restart");
    ensure!(remembered(&ours, REFUSED)?.is_none(), "one that was forgotten came back from the file");
    ours.call("conn.connect", json!([address]))?;
    friend.total()?;
    ensure!(std::fs::read(dir.join(file))? == before, "{file} was written");
    Ok(())
}

#[test]
fn what_ssb_conn_wrote_in_conn_json_is_taken_over() -> Result<()> {
    taken_over(Kind::Db2, tempfile::tempdir()?.path(), "conn.json")
}

#[test]
fn what_ssb_gossip_wrote_in_gossip_json_is_taken_over() -> Result<()> {
    taken_over(Kind::ClassicThatSurvives, tempfile::tempdir()?.path(), "gossip.json")
}
