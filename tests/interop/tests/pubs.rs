//! Pubs that feeds tell of: written by ssb-server, read by us; and what ssb-ref makes of the same addresses.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_discovery::pubs::Told;
use sbot_feed::FeedId;
use sbot_interop::{End, JsPeer, Kind, Lan, SbotNode, network_key, script, wait_until};
use serde_json::{Value, json};

/// Longest wait for a message to be replicated and understood.
const KNOWN: Duration = Duration::from_secs(30);

const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";

#[test]
fn the_pub_that_a_friend_on_ssb_server_tells_of_is_known_and_can_be_dialed() -> Result<()> {
    let Some((_lan, hosts)) = Lan::new(3) else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let the_pub = JsPeer::start_on(&hosts[0], Kind::Classic, &world.path().join("pub"), &key)?;
    let mut friend = JsPeer::start_on(&hosts[1], Kind::Classic, &world.path().join("friend"), &key)?;
    // It shall not know them from the network.
    let quiet = ["--", "--local", "false"];
    let mut ours = SbotNode::start_on_with(&hosts[2], &world.path().join("sbot"), &key, &quiet)?;

    let address = json!({"host": hosts[0].ip, "port": 8008, "key": the_pub.id});
    let told = friend.publish(json!({"type": "pub", "address": address}))?;
    ours.publish(json!({"type": "contact", "contact": friend.id, "following": true}))?;
    let base64 = |id: &str| id.trim_start_matches('@').trim_end_matches(".ed25519").to_owned();
    ours.connect(&format!("net:{}:8008~shs:{}", hosts[1].ip, base64(&friend.id)))?;
    wait_until("the message is there", KNOWN, || ours.has(&told))?;
    wait_until("the pub is known", KNOWN, || {
        let peers = ours.call("gossip.peers", json!([]))?;
        let the_pub = peers.as_array().into_iter().flatten().find(|peer| peer["key"] == json!(the_pub.id));
        Ok(the_pub.is_some_and(|the_pub| the_pub["source"] == "pub" && the_pub["host"] == json!(hosts[0].ip)))
    })?;
    ours.call("gossip.connect", json!([the_pub.id]))?;
    Ok(())
}

#[test]
fn addresses_mean_to_us_what_they_mean_to_ssb_ref() -> Result<()> {
    let id = format!("@{KEY}.ed25519");
    let same = [
        json!({"host": "pub.example.org", "port": 8008, "key": id}),
        json!({"host": "203.0.113.7", "port": 8009, "key": id}),
        json!({"host": "2001:db8::7", "port": 8008, "key": id}),
        json!({"host": "pub", "port": 8008, "key": id}),
        json!({"host": "-a.org", "port": 8008, "key": id}),
        json!({"host": "pub.example.org", "port": 80.5, "key": id}),
        json!({"host": "pub.example.org", "port": 8008, "key": "@short.ed25519"}),
        json!({"port": 8008, "key": id}),
        json!({"host": "pub.example.org", "port": 8008}),
        json!(format!("net:pub.example.org:8008~shs:{KEY}")),
        json!(format!("net:2001:db8::7:8008~shs:{KEY}")),
        json!("net:pub.example.org:8008"),
        json!("http://pub.example.org"),
        json!("pub.example.org"),
        json!(""),
        json!(null),
        json!(8008),
        json!(true),
    ];
    // ssb-conn drops these though ssb-ref's isAddress takes them, and ssb-gossip dials them.
    let dialed_by_ssb_gossip = [
        (json!(format!("pub.example.org:8008:{id}")), "net:pub.example.org:8008"),
        (json!({"host": "pub.example.org", "port": "8008", "key": id}), "net:pub.example.org:8008"),
    ];
    // These they dial. We don't: nobody else is there, or nothing that we could dial.
    let dialed_by_them_alone = [
        json!({"host": "", "port": 8008, "key": id}),
        json!({"host": "localhost", "port": 8008, "key": id}),
        json!({"host": "127.0.0.1", "port": 8008, "key": id}),
        json!({"host": "0.0.0.0", "port": 8008, "key": id}),
        json!({"host": "ws://pub.example.org", "port": 8989, "key": id}),
        json!({"host": "abc.onion", "port": 8008, "key": id}),
        json!(format!("ws://pub.example.org:8989~shs:{KEY}")),
        json!("net:pub.example.org:8008~noauth"),
    ];
    let theirs =
        ssb_ref(same.iter().chain(dialed_by_ssb_gossip.iter().map(|(one, _)| one)).chain(&dialed_by_them_alone))?;
    for (address, theirs) in same.iter().zip(&theirs) {
        ensure!(ours(address) == *theirs, "{address}: ours {:?}, theirs {theirs:?}", ours(address));
    }
    for ((address, meant), theirs) in dialed_by_ssb_gossip.iter().zip(&theirs[same.len()..]) {
        ensure!(ours(address) == Some(format!("{meant}~shs:{KEY}")), "{address}: {:?}", ours(address));
        ensure!(theirs.is_none(), "{address} is {theirs:?} to ssb-conn now");
    }
    for (address, theirs) in dialed_by_them_alone.iter().zip(&theirs[same.len() + dialed_by_ssb_gossip.len()..]) {
        ensure!(ours(address).is_none() && theirs.is_some(), "{address}: {:?}, {theirs:?}", ours(address));
    }
    Ok(())
}

fn ours(address: &Value) -> Option<String> {
    let content = json!({"type": "pub", "address": address}).to_string();
    Told::read(FeedId([1; 32]), 0.0, content.as_bytes()).map(|told| told.address.to_string())
}

/// The multiserver addresses that ssb-conn would stage.
fn ssb_ref<'a>(addresses: impl Iterator<Item = &'a Value>) -> Result<Vec<Option<String>>> {
    let lines: Vec<_> = addresses.map(Value::to_string).collect();
    let mut node = script("addresses.js")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("node")?;
    // Few enough for the pipes to hold them all.
    writeln!(node.stdin.take().context("no stdin")?, "{}", lines.join("\n"))?;
    let output = node.wait_with_output()?;
    ensure!(output.status.success(), "node failed");
    let answers: Vec<_> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(answers.len() == lines.len(), "{} answers to {} questions", answers.len(), lines.len());
    Ok(answers)
}
