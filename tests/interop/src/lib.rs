//! Support for tests against the JavaScript peers and clients: real processes, on loopback, in networks of their own.
//!
//! [`js`] installs the npm packages once. [`Network`] is a generated log of signed messages. [`JsPeer`] runs ssb-server or
//! the ssb-db2 stack, [`SbotNode`] runs our own `sbot server`; both answer for their feeds' last ids ([`Tips`]) and end
//! with the value that holds them.
//!
//! What is costly to make, packages, logs and the databases that JavaScript builds of them, is kept below the target
//! directory and made anew when the scripts in `js/` change.

pub mod blobs;
mod calls;
mod child;
mod hub;
mod install;
mod lan;
mod nat;
mod network;
mod node;
mod peer;
mod peer_calls;
mod scenario;
mod tools;

pub use calls::{Answers, compare};
pub use child::wait_until;
pub use hub::{Hub, HubKind};
pub use install::{js, script};
pub use lan::{Flood, Host, Lan};
pub use nat::{Internet, Nat, Relay};
pub use network::{Network, Spec};
pub use node::SbotNode;
pub use peer::{JsPeer, Kind};
pub use peer_calls::PeerAnswers;
pub use scenario::{from_js, live, sync, to_js};
pub use tools::chromium;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Each feed's last message: sequence and id.
pub type Tips = BTreeMap<String, (u64, String)>;

/// What a peer of either kind can be asked. Each method fails if the peer says so, or has gone.
pub trait End {
    /// Its feed.
    fn id(&self) -> &str;
    /// Its multiserver address.
    fn address(&self) -> &str;
    /// Number of messages that it has.
    ///
    /// # Errors
    /// The peer doesn't answer.
    fn total(&mut self) -> Result<u64>;
    /// The last messages of the feeds that it has.
    ///
    /// # Errors
    /// The peer doesn't answer.
    fn tips(&mut self) -> Result<Tips>;
    /// Asks it to replicate `feeds` whatever the social graph says.
    ///
    /// # Errors
    /// The peer doesn't answer.
    fn want(&mut self, feeds: &[String]) -> Result<()>;
    /// Publishes a message and returns its id.
    ///
    /// # Errors
    /// The peer refuses it.
    fn publish(&mut self, content: Value) -> Result<String>;
    /// Whether it has a message.
    ///
    /// # Errors
    /// The peer doesn't answer.
    fn has(&mut self, message: &str) -> Result<bool>;
    /// Dials an address; returns when the connection is up.
    ///
    /// # Errors
    /// There is no connection.
    fn connect(&mut self, address: &str) -> Result<()>;
}

/// A network key of this test run's own, in base64: two tests never meet by accident.
///
/// # Errors
/// The system has no randomness.
pub fn network_key() -> Result<String> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(STANDARD.encode(key))
}

/// A program of this package, built by cargo beside the test that asks.
///
/// # Errors
/// It isn't there.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = profile_dir()?.join(name);
    anyhow::ensure!(path.exists(), "{} is missing: cargo builds it for integration tests", path.display());
    Ok(path)
}

/// `target/debug`, or whatever this test was built into.
fn profile_dir() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/debug/deps/TEST-HASH
    test.ancestors().nth(2).map(PathBuf::from).context("the test's path has no target directory")
}

/// Where costly things are kept between tests.
fn cache_dir() -> Result<PathBuf> {
    let dir = profile_dir()?.join("interop");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
