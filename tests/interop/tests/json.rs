//! Our JSON against node's own: what V8 reads, prints and hashes, we read, print and hash, to the byte.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sbot_feed::{json, message_id};

const VALUES: usize = 120_000;
/// Any will do; another finds other values.
const SEED: &str = "20260118";
/// Differences shown before the test gives up.
const SHOWN: usize = 10;

#[test]
fn generated_values_are_printed_as_node_prints_them() -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("js/json-values.js");
    let mut node = Command::new("node")
        .arg(script)
        .args([SEED, &VALUES.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("this test needs node: install Node.js 18 or newer")?;
    let output = node.stdout.take().context("node's output")?;
    let (mut seen, mut different) = (0, Vec::new());
    for line in BufReader::new(output).lines() {
        let [text, compact, indented, id]: [String; 4] = serde_json::from_str(&line?)?;
        seen += 1;
        let ours = print(text.as_bytes());
        let same = ours.as_ref().is_ok_and(|ours| *ours == [compact.as_str(), &indented, &format!("%{id}.sha256")]);
        if !same && different.len() < SHOWN {
            different.push(format!("{text:?}\n  node: {compact:?}\n  ours: {ours:?}"));
        }
    }
    ensure!(node.wait()?.success(), "node failed");
    ensure!(seen == VALUES, "node printed {seen} of {VALUES} values");
    ensure!(different.is_empty(), "some values differ:\n{}", different.join("\n"));
    Ok(())
}

/// Compact, indented, and the id.
fn print(text: &[u8]) -> Result<[String; 3]> {
    let document = json::parse(text)?;
    let (mut compact, mut indented) = (Vec::new(), Vec::new());
    document.root().print(&mut compact);
    document.root().print_indented(&mut indented, 0);
    Ok([String::from_utf8(compact)?, String::from_utf8(indented)?, message_id(text)?.to_string()])
}
