//! A running node, and what a test says to it and waits for.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use sbot::Node;
use sbot_feed::FeedId;
use sbot_multiserver::{Connection, Direction};
use sbot_rpc::{Body, Peer};
use sbot_store::{Ingested, Record, Store};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::world::{PATIENCE, Setup};
use crate::{RawPeer, feeds};

/// Between two looks at something that can't be waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes under way in each direction between two nodes that are joined in memory.
const PIPE: usize = 1 << 16;

/// A node under test.
pub struct TestNode {
    name: String,
    node: Node,
    client: Peer,
    setup: Setup,
}

impl TestNode {
    pub(crate) fn new(name: String, node: Node, setup: Setup) -> TestNode {
        let client = node.client();
        TestNode { name, node, client, setup }
    }

    /// Its name in this test.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who it is.
    pub fn id(&self) -> FeedId {
        self.node.id()
    }

    /// Where it listens, as a multiserver address.
    ///
    /// # Errors
    /// If it doesn't listen on TCP.
    pub fn address(&self) -> Result<String> {
        self.node.address().with_context(|| format!("{} doesn't listen on TCP", self.name))
    }

    /// The port that it listens on.
    ///
    /// # Errors
    /// If it doesn't listen on TCP.
    pub fn port(&self) -> Result<u16> {
        self.node.port().with_context(|| format!("{} doesn't listen on TCP", self.name))
    }

    /// Its log, to read and to put messages into directly.
    pub fn store(&self) -> &Store {
        self.node.store()
    }

    /// A connection as the owner.
    pub fn client(&self) -> &Peer {
        &self.client
    }

    /// The node itself.
    pub fn inner(&self) -> &Node {
        &self.node
    }

    /// What its methods work with.
    pub fn context(&self) -> &sbot::api::Context {
        self.node.context()
    }

    /// How it was set up.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Calls a method as the owner; `args` is an array. The answer is a JSON value or a text.
    ///
    /// # Errors
    /// What the node answers.
    pub async fn call(&self, method: &str, args: &impl Serialize) -> Result<Value> {
        let answer = timeout(PATIENCE, self.client.call(method, args)).await;
        let answer = answer.with_context(|| format!("{} doesn't answer {method}: {}", self.name, self.state()))?;
        match answer? {
            Body::Json(json) => Ok(serde_json::from_slice(&json)?),
            other => Ok(Value::String(String::from_utf8(other.into_bytes().to_vec())?)),
        }
    }

    /// Publishes a content; answers the message as `{key, value, timestamp}`.
    ///
    /// # Errors
    /// What the node answers.
    pub async fn publish(&self, content: Value) -> Result<Value> {
        self.call("publish", &[content]).await
    }

    /// Publishes `count` posts.
    ///
    /// # Errors
    /// What the node answers.
    pub async fn posts(&self, count: usize) -> Result<()> {
        for number in 1..=count {
            self.publish(crate::post(&format!("{} {number}", self.name))).await?;
        }
        Ok(())
    }

    /// Publishes that it follows somebody, and waits until it acts upon that.
    ///
    /// # Errors
    /// What the node answers, or if it takes too long.
    pub async fn follow(&self, whom: impl Into<Whom>) -> Result<()> {
        let whom = whom.into().0;
        self.publish(json!({"type": "contact", "contact": whom, "following": true})).await?;
        self.until("it acts upon a follow", |node| node.context().social.is_following(&node.id(), &whom)).await
    }

    /// Publishes that it blocks somebody, and waits until it acts upon that.
    ///
    /// # Errors
    /// What the node answers, or if it takes too long.
    pub async fn block(&self, whom: impl Into<Whom>) -> Result<()> {
        let whom = whom.into().0;
        self.publish(json!({"type": "contact", "contact": whom, "blocking": true})).await?;
        self.until("it acts upon a block", |node| node.context().social.is_blocking(&node.id(), &whom)).await
    }

    /// Dials another node over loopback; comes back when the connection is up.
    ///
    /// # Errors
    /// What the node answers.
    pub async fn connect(&self, to: &TestNode) -> Result<()> {
        self.call("gossip.connect", &[to.address()?]).await?;
        Ok(())
    }

    /// Hangs up; comes back when the connection is closed here.
    ///
    /// # Errors
    /// What the node answers.
    pub async fn disconnect(&self, from: &TestNode) -> Result<()> {
        self.call("gossip.disconnect", &[from.id()]).await?;
        Ok(())
    }

    /// Joins two nodes in memory, without sockets and handshake, as if this one had dialed.
    pub fn join(&self, to: &TestNode) {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let end = |remote, stream, direction| {
            let (read, write) = tokio::io::split(stream);
            let (read, write) = (Box::new(read), Box::new(write));
            Connection { remote, local_client: false, address: "memory".into(), direction, read, write }
        };
        to.node.accept(end(self.id(), theirs, Direction::Accepted));
        self.node.accept(end(to.id(), ours, Direction::Dialed));
    }

    /// Whether a connection with this peer is up, by `gossip.peers`.
    pub fn is_connected(&self, to: &FeedId) -> bool {
        connected(&self.node).contains(to)
    }

    /// Puts messages into its log as if a peer had brought them; all must be stored.
    ///
    /// # Errors
    /// If one isn't.
    pub async fn take_in(&self, messages: Vec<Bytes>) -> Result<()> {
        for answer in self.store().ingest(messages).await {
            ensure!(matches!(answer, Ingested::Stored { .. }), "not stored by {}: {answer:?}", self.name);
        }
        Ok(())
    }

    /// How much it has of a feed; 0 for nothing.
    pub fn has(&self, feed: FeedId) -> u64 {
        self.store().tip(&feed).map_or(0, |tip| tip.sequence)
    }

    /// All that it has of a feed.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn feed(&self, feed: FeedId) -> Result<Vec<Record>> {
        Ok(self.store().read_feed(&feed, 1, 16_384)?)
    }

    /// Waits until it has at least `sequence` messages of a feed.
    ///
    /// # Errors
    /// After [`PATIENCE`], with an account of its state.
    pub async fn until_has(&self, feed: FeedId, sequence: u64) -> Result<()> {
        let mut length = self.store().watch();
        let waiting = async {
            while self.has(feed) < sequence {
                if length.changed().await.is_err() {
                    return;
                }
            }
        };
        let in_time = timeout(PATIENCE, waiting).await.is_ok();
        let has = self.has(feed);
        if has >= sequence {
            return Ok(());
        }
        let why = if in_time { "its log is closed" } else { "no more came" };
        bail!("{} has {has} and not {sequence} messages of {feed}: {why}\n{}", self.name, self.state());
    }

    /// Waits until the log has so many messages in all.
    ///
    /// # Errors
    /// After [`PATIENCE`], with an account of its state.
    pub async fn until_len(&self, count: u64) -> Result<()> {
        let mut length = self.store().watch();
        let done = timeout(PATIENCE, length.wait_for(|length| *length >= count)).await;
        ensure!(matches!(done, Ok(Ok(_))), "{} doesn't get {count} messages\n{}", self.name, self.state());
        Ok(())
    }

    /// Waits until something is so that nothing tells of; `what` completes "it doesn't come to pass that…".
    ///
    /// # Errors
    /// After [`PATIENCE`], with an account of its state.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Node) -> bool) -> Result<()> {
        self.until_found(what, async || Ok(is_so(&self.node).then_some(()))).await
    }

    /// Waits until `look` finds something, and returns it; `what` completes "it doesn't come to pass that…".
    ///
    /// # Errors
    /// Those of `look`, at once; and after [`PATIENCE`], with an account of its state.
    pub async fn until_found<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let waiting = async {
            loop {
                if let Some(found) = look().await? {
                    return Ok(found);
                }
                sleep(LOOK).await;
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => bail!("{}: it doesn't come to pass that {what}\n{}", self.name, self.state()),
        }
    }

    /// Waits until it is no longer connected with a peer.
    ///
    /// # Errors
    /// After [`PATIENCE`], with an account of its state.
    pub async fn until_disconnected(&self, from: FeedId) -> Result<()> {
        self.until("the connection is closed", |node| !connected(node).contains(&from)).await
    }

    /// It still does its work: answers its owner, and lets in a peer that behaves and answers it too.
    ///
    /// # Errors
    /// If it doesn't, with an account of its state.
    pub async fn is_well(&self) -> Result<()> {
        let told = self.call("whoami", &json!([])).await?;
        ensure!(told["id"] == self.id().to_string(), "{} answers whoami with {told}", self.name);
        let seed = feeds::Draws::new(self.store().len() + 1).bits();
        let peer = RawPeer::dial(&self.setup.config().caps.shs, &feeds::keypair(seed, 77), self).await;
        let peer = peer.with_context(|| format!("{} lets no good peer in\n{}", self.name, self.state()))?.session();
        let manifest = timeout(PATIENCE, peer.call("manifest", &json!([]))).await;
        let manifest = manifest.with_context(|| format!("{} answers no peer\n{}", self.name, self.state()))??;
        ensure!(manifest.len() > 2, "{} has no manifest", self.name);
        peer.close("done");
        Ok(())
    }

    /// What an error about this node says of it.
    pub fn state(&self) -> String {
        let store = self.store();
        let mut text = format!("  {} is {}, with {} messages:", self.name, self.id(), store.len());
        let mut clock = store.clock();
        clock.sort_unstable();
        for (feed, sequence) in clock.iter().take(20) {
            // A string takes it all.
            let _ = write!(text, "\n    {feed} up to {sequence}");
        }
        if clock.len() > 20 {
            let _ = write!(text, "\n    and {} feeds more", clock.len() - 20);
        }
        let wanted: Vec<String> = self.node.context().replication.wanted().iter().map(ToString::to_string).collect();
        let _ = write!(text, "\n  wants {}", wanted.join(", "));
        for peer in self.node.context().peers.list() {
            let _ = write!(text, "\n  peer {} {:?}, {:?} failures", peer.key, peer.state, peer.failure);
        }
        for fork in store.forks() {
            let _ = write!(text, "\n  fork of {} at {}", fork.author, fork.sequence);
        }
        for damage in store.damage() {
            let _ = write!(text, "\n  damage: {} bytes at {}", damage.length, damage.offset());
        }
        text
    }

    /// Stops it; what comes back starts it again in the same directory.
    pub async fn stop(self) -> Setup {
        self.client.close("the test stops the node");
        self.node.stop().await;
        self.setup
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// If it can't start again.
    pub async fn restart(self) -> Result<TestNode> {
        self.stop().await.start().await
    }
}

fn connected(node: &Node) -> Vec<FeedId> {
    let peers = node.context().peers.list().into_iter();
    peers.filter(|peer| peer.state == Some(sbot::api::PeerState::Connected)).map(|peer| peer.key).collect()
}

/// Somebody, by id or by node.
#[derive(Debug, Clone, Copy)]
pub struct Whom(FeedId);

impl From<FeedId> for Whom {
    fn from(id: FeedId) -> Whom {
        Whom(id)
    }
}

impl From<&TestNode> for Whom {
    fn from(node: &TestNode) -> Whom {
        Whom(node.id())
    }
}
