//! The handshake's own test suite, `shs1-test` of npm, for both roles.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use sbot_interop::{js, program};

/// Runs the suite's script against one of our programs. A seed makes a run repeatable; the suite mutates every message.
fn passes(suite: &str, ours: &str) -> Result<()> {
    for seed in ["sbot 1", "sbot 2", "sbot 3"] {
        let output = Command::new("node")
            .arg(js()?.join("classic/node_modules/shs1-test").join(suite))
            .arg(program(ours)?)
            .arg(seed)
            .stdin(Stdio::null())
            .output()?;
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        ensure!(output.status.success(), "{suite} with seed {seed:?}:\n{}", String::from_utf8_lossy(&text));
    }
    Ok(())
}

#[test]
fn our_client_shakes_hands_and_refuses_every_server_that_misbehaves() -> Result<()> {
    passes("test-client.js", "shs1-client-under-test")
}

#[test]
fn our_server_shakes_hands_and_refuses_every_client_that_misbehaves() -> Result<()> {
    passes("test-server.js", "shs1-server-under-test")
}
