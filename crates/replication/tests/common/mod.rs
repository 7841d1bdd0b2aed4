//! Nodes that replicate over in-memory connections, each with a log in a temporary directory.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sbot_feed::{FeedId, FeedTip, Keypair, Message, create_message};
use sbot_replication::{Options, PeerClocks, Replicator};
use sbot_rpc::{Body, Limits, Peer, Registry, Session};
use sbot_store::{Store, StoreOptions};
use tempfile::TempDir;

/// Clocks in memory.
#[derive(Default)]
pub(crate) struct Clocks(Mutex<HashMap<FeedId, Vec<(FeedId, i64)>>>);

impl Clocks {
    /// Whether a clock was saved for this peer.
    pub(crate) fn knows(&self, peer: &FeedId) -> bool {
        self.0.lock().contains_key(peer)
    }
}

impl PeerClocks for Clocks {
    fn load(&self, peer: &FeedId) -> Vec<(FeedId, i64)> {
        self.0.lock().get(peer).cloned().unwrap_or_default()
    }

    fn save(&self, peer: &FeedId, clock: &[(FeedId, i64)]) {
        self.0.lock().insert(*peer, clock.to_vec());
    }
}

/// Keys of author `number`.
pub(crate) fn author(number: u8) -> Keypair {
    Keypair::from_seed([number + 1; 32])
}

/// Messages `from..=to` of an author, as values; `branch` makes other ones.
pub(crate) fn messages(keys: &Keypair, count: u64, branch: &str) -> Vec<Message> {
    let mut tip: Option<FeedTip> = None;
    (1..=count)
        .map(|number| {
            let content = format!("{{\"type\":\"post\",\"text\":\"{branch} {number}\"}}");
            let timestamp = 1_500_000_000_000.0 + number as f64;
            let message = create_message(keys, None, tip.as_ref(), content.as_bytes(), timestamp).unwrap();
            tip = Some(FeedTip::from(&message));
            message
        })
        .collect()
}

/// One node.
pub(crate) struct Node {
    pub(crate) id: FeedId,
    pub(crate) store: Store,
    pub(crate) replicator: Replicator,
    pub(crate) clocks: Arc<Clocks>,
    _dir: TempDir,
}

impl Node {
    /// Node `number` writes as author `number`.
    pub(crate) fn new(number: u8, options: Options) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default(), &mut |_| {}).unwrap();
        let (id, clocks) = (author(number).id(), Arc::new(Clocks::default()));
        let replicator = Replicator::new(id, store.clone(), Arc::clone(&clocks) as Arc<dyn PeerClocks>, options);
        tokio::spawn(replicator.clone().run());
        Node { id, store, replicator, clocks, _dir: dir }
    }

    /// Takes in messages as an import does, behind the replicator's back.
    pub(crate) async fn import(&self, messages: &[Message]) {
        let batch: Vec<Bytes> = messages.iter().map(|message| message.value.clone()).collect();
        self.store.ingest(batch).await;
    }

    pub(crate) fn want(&self, authors: &[u8]) {
        authors.iter().for_each(|number| self.replicator.request(&author(*number).id(), true));
    }

    pub(crate) fn have(&self, number: u8) -> u64 {
        self.store.tip(&author(number).id()).map_or(0, |tip| tip.sequence)
    }

    /// Waits until it has this many messages of an author.
    pub(crate) async fn until(&self, number: u8, sequence: u64) {
        let mut length = self.store.watch();
        let arrive = async {
            while self.have(number) < sequence {
                length.changed().await.unwrap();
            }
        };
        let arrived = tokio::time::timeout(Duration::from_secs(20), arrive).await;
        assert!(arrived.is_ok(), "only {} of {sequence} messages of author {number} came", self.have(number));
    }

    fn registry(&self, ebt: bool) -> Arc<Registry<FeedId>> {
        let mut registry = Registry::new();
        if ebt {
            let replicator = self.replicator.clone();
            registry = registry.duplex("ebt.replicate", move |call, inlet, outlet| {
                let replicator = replicator.clone();
                async move { replicator.serve(call.caller, &call.args, inlet, outlet).await }
            });
        }
        let (store, replicator) = (self.store.clone(), self.replicator.clone());
        Arc::new(registry.source("createHistoryStream", move |call, mut outlet| {
            let (store, replicator) = (store.clone(), replicator.clone());
            async move {
                #[derive(serde::Deserialize)]
                struct Asked {
                    id: FeedId,
                    seq: u64,
                    live: bool,
                }
                let asked: Asked = call.arg(0)?.unwrap();
                replicator.history_requested(&call.caller);
                let (mut next, mut length) = (asked.seq, store.watch());
                loop {
                    length.borrow_and_update();
                    let records = store.read_feed(&asked.id, next, 1000).unwrap();
                    next += records.len() as u64;
                    let more = !records.is_empty();
                    let bodies = records.into_iter().map(|record| Body::Json(record.value)).collect();
                    if outlet.send_many(bodies).await.is_err() || (!more && !asked.live) {
                        return Ok(());
                    }
                    if !more && length.changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }))
    }
}

/// A connection between two nodes; dropping it closes it.
pub(crate) struct Wire(Peer, Peer);

impl Wire {
    /// Both sides are done with it.
    pub(crate) async fn close(self) {
        self.0.close("over");
        self.0.closed().await;
        self.1.closed().await;
    }

    /// Waits until either side closes it.
    pub(crate) async fn closed(&self) -> String {
        self.0.closed().await
    }
}

/// `dialer` dials `dialed`, which offers `ebt.replicate` if `ebt`.
pub(crate) fn connect(dialer: &Node, dialed: &Node, ebt: bool) -> Wire {
    let (one, two) = tokio::io::duplex(64 * 1024);
    let end = |io: tokio::io::DuplexStream, node: &Node, other: &Node, dials: bool| {
        let (read, write) = tokio::io::split(io);
        let peer = Session::spawn(read, write, node.registry(ebt), other.id, Limits::REMOTE);
        let (replicator, id, handle) = (node.replicator.clone(), other.id, peer.clone());
        tokio::spawn(async move { replicator.connected(id, handle, dials).await });
        peer
    };
    Wire(end(one, dialer, dialed, true), end(two, dialed, dialer, false))
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(), "{what}");
}
