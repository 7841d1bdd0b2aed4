//! JavaScript peers of every role try every method that any SSB server has; what happens is what the matrix says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sbot_feed::{Keypair, create_message};
use sbot_interop::{SbotNode, network_key, script, wait_until};
use serde_json::{Map, Value, json};

/// Longest wait for the social graph to take a message in.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The methods of all servers and plugins that there are, with their kinds: read from the running packages.
const NAMES: &str = include_str!("../js/method-names.json");

/// What would be asked of us if the words of a refusal were not ours.
const REFUSAL: &str = "is not in list of allowed methods";

/// Who tries.
const PEERS: [(&str, u8); 4] = [("stranger", 1), ("friend", 2), ("followed", 3), ("blocked", 4)];

fn keys(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

/// Names with kinds, out of a manifest.
fn flattened(path: &str, manifest: &Value, into: &mut BTreeMap<String, Value>) {
    for (name, value) in manifest.as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if value.is_object() {
            flattened(&path, value, into);
        } else {
            into.insert(path, value.clone());
        }
    }
}

/// What happened to a peer with this key: `None` if it wasn't let in, else its refusals.
fn tries(node: &SbotNode, network: &str, seed: u8, methods: &Path) -> Result<Option<Map<String, Value>>> {
    let output = script("auth-calls.js")?
        .args(["--remote", &node.address, "--network", network])
        .args(["--seed", &STANDARD.encode([seed; 32])])
        .arg("--methods")
        .arg(methods)
        .env("HOME", &node.dir)
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "auth-calls.js failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut answer: Value = serde_json::from_slice(&output.stdout)?;
    match answer["refused"].take() {
        Value::Object(refused) if answer["connected"] == true => Ok(Some(refused)),
        _ => Ok(None),
    }
}

/// A node that follows one, blocks one, and has a friend of a friend, by this config.
fn node(dir: &Path, network: &str, auth: &Value) -> Result<SbotNode> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("config"), json!({ "auth": auth }).to_string())?;
    let says = json!({"type": "contact", "contact": keys(2).id(), "following": true});
    let follow = create_message(&keys(3), None, None, &serde_json::to_vec(&says)?, 1.5e12)?;
    std::fs::write(dir.join("log.jsonl"), &follow.value)?;
    SbotNode::import(dir, network, &dir.join("log.jsonl"))?;
    let node = SbotNode::start(dir, network)?;
    node.call("publish", json!([{"type": "contact", "contact": keys(3).id(), "following": true}]))?;
    node.call("publish", json!([{"type": "contact", "contact": keys(4).id(), "blocking": true}]))?;
    for (name, seed) in PEERS {
        wait_until("the graph knows everybody", PATIENCE, || {
            let told = node.call("authorisation.explain", json!([keys(seed).id(), "dial"]))?;
            Ok(told["decisions"][0]["role"] == name)
        })?;
    }
    Ok(node)
}

/// Has everybody try everything; answers how many calls were let through.
fn everybody_tries_everything(auth: &Value) -> Result<usize> {
    let world = tempfile::tempdir()?;
    let network = network_key()?;
    let node = node(&world.path().join("sbot"), &network, auth)?;
    let mut methods: BTreeMap<String, Value> = serde_json::from_str(NAMES)?;
    flattened("", &node.call("manifest", json!([]))?, &mut methods);
    // Clients have a property of that name: they can't call it.
    methods.remove("stream");
    let file = world.path().join("methods.json");
    std::fs::write(&file, serde_json::to_vec(&methods)?)?;

    let table = node.call("authorisation.table", json!([]))?;
    let rules = table["rules"].as_array().context("no rules")?;
    let may = |role: &str, rule: &str| {
        let row = rules.iter().find(|row| row["rule"] == rule);
        row.is_some_and(|row| row["allowed"][role] == true)
    };
    let is_method = |name: &str| rules.iter().any(|row| row["rule"] == name && row["method"] == true);
    let mut through = 0;
    for (role, seed) in PEERS {
        let refused = tries(&node, &network, seed, &file)?;
        ensure!(refused.is_some() == may(role, "connect"), "whether a {role} is let in");
        let Some(refused) = refused else { continue };
        ensure!(
            refused.keys().collect::<BTreeSet<_>>() == methods.keys().collect::<BTreeSet<_>>(),
            "not all were tried"
        );
        for (method, told) in &refused {
            let allowed = is_method(method) && may(role, method);
            ensure!(told.is_null() == allowed, "{method} of a {role}: {told}");
            if let Some(told) = told.as_str() {
                ensure!(told.contains(REFUSAL) && told.contains(&format!("you are {role}, rule ")), "{told}");
            }
            through += usize::from(allowed);
        }
    }
    // All of it left the node well.
    node.call("whoami", json!([]))?;
    node.stop()?;
    Ok(through)
}

#[test]
fn by_default_every_peer_may_what_ssb_server_lets_anonymous_peers_do_and_no_more() -> Result<()> {
    // manifest, two pings, ebt.replicate, createHistoryStream, five methods of blobs; for three that are let in.
    ensure!(everybody_tries_everything(&json!({}))? == 3 * 10);
    Ok(())
}

#[test]
fn an_open_pub_also_tells_everyone_what_it_is() -> Result<()> {
    ensure!(everybody_tries_everything(&json!({"preset": "open pub"}))? == 3 * 12);
    Ok(())
}

#[test]
fn with_friends_only_a_stranger_is_not_let_in() -> Result<()> {
    ensure!(everybody_tries_everything(&json!({"preset": "friends only"}))? == 2 * 10);
    Ok(())
}

#[test]
fn rules_of_the_config_hold_for_javascript_peers() -> Result<()> {
    let rules =
        json!({"connect": "stranger", "blobs.get": "followed", "status": "friend", "manifest": ["stranger", "room"]});
    // manifest for all three; the nine others for two, but for blobs.get; and status.
    ensure!(everybody_tries_everything(&json!({"preset": "friends only", "rules": rules}))? == 3 + 2 * 8 + 1 + 2);
    Ok(())
}
