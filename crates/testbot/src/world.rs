//! A network of nodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sbot::config::Config;
use sbot::publish::{Clock, system_clock};
use sbot::{Environment, Node, Uptime, system_uptime};
use sbot_feed::{Keypair, NetworkKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::feeds;
use crate::node::TestNode;
use crate::raw::RawPeer;

/// The longest that a test waits for one thing to happen. Long: machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A network of its own.
pub struct World {
    network: NetworkKey,
    directory: Arc<TempDir>,
}

impl World {
    /// A network with a random key and nobody in it. Its directories go when it and all its nodes are dropped.
    ///
    /// # Errors
    /// If the system gives no temporary directory.
    pub fn new() -> Result<World> {
        let directory = tempfile::Builder::new().prefix("sbot-test-").tempdir().context("no temporary directory")?;
        Ok(World { network: NetworkKey(*Keypair::generate().id().as_bytes()), directory: Arc::new(directory) })
    }

    /// The network's key.
    pub fn network(&self) -> NetworkKey {
        self.network
    }

    /// Starts a node: loopback, any port, no unix socket, dials only when told to. The same name is the same key in every
    /// world.
    ///
    /// # Errors
    /// If it can't start.
    pub async fn node(&self, name: &str) -> Result<TestNode> {
        self.setup(name).start().await
    }

    /// A node to be started, whose settings can still be changed.
    pub fn setup(&self, name: &str) -> Setup {
        let path = self.directory.path().join(name);
        let mut config = Config::new(path)
            .with_network(self.network)
            .with_keypair(keypair(name))
            .with_listener("127.0.0.1", 0)
            .without_socket();
        config.peers.autostart = false;
        config.peers.local = false;
        Setup { name: name.to_owned(), config, clock: None, uptime: None, _directory: Arc::clone(&self.directory) }
    }

    /// A peer that knows the network's key and does as the test tells.
    ///
    /// # Errors
    /// If it isn't let in.
    pub async fn raw(&self, name: &str, node: &TestNode) -> Result<RawPeer> {
        RawPeer::dial(&self.network, &keypair(name), node).await
    }

    /// The key of whoever has this name.
    pub fn keypair(&self, name: &str) -> Keypair {
        keypair(name)
    }
}

/// A content of type `post`.
pub fn post(text: &str) -> Value {
    json!({"type": "post", "text": text})
}

fn keypair(name: &str) -> Keypair {
    // FNV-1a: only has to tell the names of one test apart.
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    feeds::keypair(seed, name.len())
}

/// A node that isn't running: what it will be when it starts.
pub struct Setup {
    name: String,
    config: Config,
    clock: Option<Clock>,
    uptime: Option<Uptime>,
    /// Keeps it from being removed.
    _directory: Arc<TempDir>,
}

impl Setup {
    /// With these changes to its settings.
    #[must_use]
    pub fn change(mut self, change: impl FnOnce(&mut Config)) -> Setup {
        change(&mut self.config);
        self
    }

    /// With a clock that the test sets.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Setup {
        self.clock = Some(clock);
        self
    }

    /// With a time since the start that the test sets: what passes of it and not of the system's was slept.
    #[must_use]
    pub fn uptime(mut self, uptime: Uptime) -> Setup {
        self.uptime = Some(uptime);
        self
    }

    /// With an address that is dialed by itself.
    #[must_use]
    pub fn seed(self, address: &str) -> Setup {
        self.change(|config| {
            config.peers.autostart = true;
            config.peers.seeds.push(address.to_owned());
        })
    }

    /// With feeds within `hops` replicated.
    #[must_use]
    pub fn hops(self, hops: u8) -> Setup {
        self.change(|config| config.friends.hops = hops)
    }

    /// Without EBT: only `createHistoryStream`.
    #[must_use]
    pub fn without_ebt(self) -> Setup {
        self.change(|config| config.replication.ebt = false)
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its data directory.
    pub fn path(&self) -> &Path {
        &self.config.path
    }

    /// The log's segments, in order.
    ///
    /// # Errors
    /// If they can't be listed.
    pub fn segments(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.config.store_path())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("log-") {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Without the log's index, which is made again at the next start.
    ///
    /// # Errors
    /// If it is there and can't be removed.
    pub fn without_index(self) -> Result<Setup> {
        match std::fs::remove_file(self.config.store_path().join("index")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(self),
        }
    }

    /// With an empty data directory. The identity stays: it isn't in there.
    ///
    /// # Errors
    /// If it can't be emptied.
    pub fn wiped(self) -> Result<Setup> {
        if self.config.path.exists() {
            std::fs::remove_dir_all(&self.config.path)?;
        }
        Ok(self)
    }

    /// Starts it.
    ///
    /// # Errors
    /// If it can't start.
    pub async fn start(self) -> Result<TestNode> {
        let seed = self.name.bytes().map(u64::from).sum();
        let clock = self.clock.clone().unwrap_or_else(system_clock);
        let uptime = self.uptime.clone().unwrap_or_else(system_uptime);
        let environment = Environment { seed, clock, uptime };
        let node = Node::start_in(self.config.clone(), environment).await;
        let node = node.with_context(|| format!("{} can't start", self.name))?;
        Ok(TestNode::new(self.name.clone(), node, self))
    }
}
