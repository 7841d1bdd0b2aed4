//! The `ssb-server` command of npm as client of our node.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sbot_interop::{Network, SbotNode, Spec, js, network_key};
use serde_json::Value;

/// The JSON texts that the command prints one after another.
fn values(text: &str) -> Result<Vec<Value>> {
    Ok(serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>()?)
}

#[test]
fn its_commands_work_with_our_node() -> Result<()> {
    let network = Network::get(Spec { messages: 3_000, authors: 40, blocks: true })?;
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let dir = world.path().join("sbot");
    std::fs::create_dir_all(&dir)?;
    std::fs::copy(network.secret(), dir.join("secret"))?;
    SbotNode::import(&dir, &key, &network.log())?;
    let server = SbotNode::start(&dir, &key)?;
    let main = network.authors.first().context("no authors")?;
    let port = server.port.to_string();
    let program = js()?.join("classic/node_modules/ssb-server/bin.js");
    let run = |words: &[&str]| -> Result<Vec<Value>> {
        let output = Command::new("node")
            .arg(&program)
            .args(words)
            .args(["--", "--host", "127.0.0.1", "--port", &port, "--caps.shs", &key, "--path"])
            .arg(&dir)
            .env("HOME", &dir)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ssb-server {}: {text}", words.join(" "));
        values(&String::from_utf8(output.stdout)?).with_context(|| words.join(" "))
    };

    let answer = run(&["whoami"])?;
    ensure!(answer.len() == 1 && answer[0]["id"] == *main, "whoami: {answer:?}");

    let answer = run(&["publish", "--type", "post", "--text", "hi"])?;
    let (expected, _) = network.tips.get(main).context("no tip")?;
    ensure!(answer.len() == 1 && answer[0]["value"]["content"]["text"] == "hi", "publish: {answer:?}");
    ensure!(answer[0]["value"]["sequence"] == expected + 1, "publish: {answer:?}");
    let published = answer[0]["key"].as_str().context("publish has no key")?.to_owned();
    ensure!(run(&["get", &published])?[0]["content"]["text"] == "hi", "get {published}");

    let answer = run(&["createLogStream", "--limit", "5"])?;
    ensure!(answer.len() == 5, "createLogStream: {answer:?}");
    let log = std::fs::read_to_string(network.log())?;
    for (line, found) in log.lines().zip(&answer) {
        let expected: Value = serde_json::from_str(line)?;
        ensure!(found["key"] == expected["key"] && found["value"] == expected["value"], "{found} is not {expected}");
    }

    let answer = run(&["friends.hops"])?;
    ensure!(answer.len() == 1 && answer[0][main] == 0, "friends.hops: {answer:?}");
    let friend = network.authors.get(1).context("no second author")?;
    ensure!(answer[0][friend] == 1, "friends.hops: {answer:?}");

    server.stop()
}
