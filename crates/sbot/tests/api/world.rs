//! A node's methods over an in-memory connection: a real log in a temporary directory, and nothing around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sbot::api::{
    Addresses, Blobs, Caller, Context, Entry, Failure, HubEntry, Hubs, Invites, Peer, PeerChange, PeerStatus, Peers,
    Pending, Pool, Progress, Replication, Wish, registry,
};
use sbot::config::Scope;
use sbot::private::Boxes;
use sbot::publish::Publisher;
use sbot::social::Social;
use sbot_authorisation::Role;
use sbot_feed::{FeedId, Keypair};
use sbot_multiserver::{Address, HubAddress, InviteCode};
use sbot_rpc::{Body, CallError, Limits, Session, Source};
use sbot_store::{BlobStore, Record, Store, StoreOptions};
use serde_json::{Map, Value};
use tokio::sync::{broadcast, watch};

/// What a handshake leaves room for in flight.
const PIPE: usize = 64 * 1024;

pub(crate) struct World {
    pub(crate) ctx: Arc<Context>,
    pub(crate) keys: Keypair,
    _dir: tempfile::TempDir,
}

/// A client of the world.
pub(crate) struct Client {
    peer: sbot_rpc::Peer,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Keypair::from_seed([1; 32]))
    }

    /// A world in which we are the one with these keys.
    pub(crate) fn of(keys: Keypair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("log"), StoreOptions::default(), &mut |_| {}).unwrap();
        let boxes = Arc::new(Boxes::new(keys.clone(), store.clone(), Some(dir.path().join("readable"))));
        let social = Social::load(store.clone(), Arc::clone(&boxes), keys.id(), 3).unwrap();
        tokio::spawn(Arc::clone(&social).follow());
        let clock: sbot::publish::Clock = Arc::new(|| 1_700_000_000_000.0);
        let publisher = Publisher::new(store.clone(), keys.clone(), None, Arc::clone(&clock), Arc::new(|| Ok(())));
        let ctx = Context {
            id: keys.id(),
            masters: Vec::new(),
            store,
            boxes,
            publisher: Arc::new(publisher),
            social,
            blobs: Arc::new(Blobs::new(BlobStore::open(&dir.path().join("blobs"), 1 << 20).unwrap())),
            replication: Arc::new(NoReplication::new()),
            peers: Arc::new(NoPeers(broadcast::Sender::new(1))),
            hubs: Arc::new(NoHubs),
            invites: Arc::new(NoInvites),
            addresses: Arc::new(Nowhere),
            clock,
        };
        Self { ctx: Arc::new(ctx), keys, _dir: dir }
    }

    /// A client on the unix socket.
    pub(crate) fn owner(&self) -> Client {
        self.client(Caller { id: self.keys.id(), role: Role::Owner })
    }

    /// A peer that we know nothing of.
    pub(crate) fn stranger(&self, id: FeedId) -> Client {
        self.client(Caller { id, role: Role::Stranger })
    }

    fn client(&self, caller: Caller) -> Client {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (read, write) = tokio::io::split(ours);
        Session::spawn(read, write, Arc::new(registry(&self.ctx, |methods| methods)), caller, Limits::LOCAL);
        let (read, write) = tokio::io::split(theirs);
        let nothing = Arc::new(sbot_rpc::Registry::<()>::new());
        Client { peer: Session::spawn(read, write, nothing, (), Limits::LOCAL) }
    }
}

impl Client {
    /// A call with one answer; text comes back as a string.
    pub(crate) async fn call(&self, method: &str, args: Value) -> Result<Value, String> {
        match self.peer.call(method, &args).await {
            Ok(body) => Ok(value(&body)),
            Err(CallError::Remote(error)) => Err(format!("{}: {}", error.name, error.message)),
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// A call whose one argument is JSON text, which a tree would reorder.
    pub(crate) async fn call_text(&self, method: &str, arg: &[u8]) -> Result<Value, String> {
        let arg: &serde_json::value::RawValue = serde_json::from_slice(arg).unwrap();
        match self.peer.call(method, &[arg]).await {
            Ok(body) => Ok(value(&body)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The raw text of a call's answer.
    pub(crate) async fn text(&self, method: &str, args: Value) -> String {
        String::from_utf8(self.peer.call(method, &args).await.unwrap().into_bytes().to_vec()).unwrap()
    }

    pub(crate) async fn open(&self, method: &str, args: Value) -> Source {
        self.peer.source(method, &args).await.unwrap()
    }

    /// A whole stream.
    pub(crate) async fn collect(&self, method: &str, args: Value) -> Result<Vec<Value>, String> {
        let mut source = self.open(method, args).await;
        let mut items = Vec::new();
        while let Some(item) = source.recv().await {
            match item {
                Ok(body) => items.push(value(&body)),
                Err(CallError::Remote(error)) => return Err(format!("{}: {}", error.name, error.message)),
                Err(error) => panic!("{method}: {error}"),
            }
        }
        Ok(items)
    }

    /// Sends bytes into a sink.
    pub(crate) async fn pour(&self, method: &str, args: Value, items: &[Body]) -> Result<(), String> {
        let mut sink = self.peer.sink(method, &args).await.unwrap();
        sink.send_many(items.to_vec()).await.map_err(|error| error.to_string())?;
        sink.end().await.map_err(|error| error.to_string())
    }

    /// Sends bytes into a sink and hangs up without waiting for its end.
    pub(crate) async fn pour_and_leave(&self, method: &str, items: &[Body]) {
        let mut sink = self.peer.sink(method, &serde_json::json!([])).await.unwrap();
        sink.send_many(items.to_vec()).await.unwrap();
        drop(sink);
        self.peer.close("done");
    }

    /// A sink.
    pub(crate) async fn sink(&self, method: &str, args: Value) -> sbot_rpc::Sink {
        self.peer.sink(method, &args).await.unwrap()
    }

    /// Waits until the connection is closed.
    pub(crate) async fn closed(&self) {
        self.peer.closed().await;
    }

    /// A duplex.
    pub(crate) async fn duplex(&self, method: &str, args: Value) -> (sbot_rpc::Sink, Source) {
        self.peer.duplex(method, &args).await.unwrap()
    }

    pub(crate) async fn publish(&self, content: Value) -> Value {
        self.call("publish", serde_json::json!([content])).await.unwrap()
    }
}

/// The next item of a stream that goes on.
pub(crate) async fn next(source: &mut Source) -> Value {
    value(&source.recv().await.unwrap().unwrap())
}

fn value(body: &Body) -> Value {
    match body {
        Body::Json(text) => serde_json::from_slice(text).unwrap(),
        Body::String(text) | Body::Binary(text) => String::from_utf8(text.to_vec()).unwrap().into(),
    }
}

struct NoReplication {
    wanted: broadcast::Sender<(FeedId, bool)>,
    progress: watch::Sender<Progress>,
}

impl NoReplication {
    fn new() -> Self {
        Self { wanted: broadcast::Sender::new(1), progress: watch::Sender::new(Progress::default()) }
    }
}

impl Replication for NoReplication {
    fn request(&self, feed: &FeedId, wanted: bool) {
        let _ = self.wanted.send((*feed, wanted));
    }
    fn block(&self, _: &FeedId, _: &FeedId, _: bool) {}
    fn wanted(&self) -> Vec<FeedId> {
        Vec::new()
    }
    fn wanted_changes(&self) -> broadcast::Receiver<(FeedId, bool)> {
        self.wanted.subscribe()
    }
    fn peer_status(&self, _: &FeedId) -> BTreeMap<FeedId, PeerStatus> {
        BTreeMap::new()
    }
    fn progress(&self) -> Option<Progress> {
        None
    }
    fn progress_changes(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
    fn history_requested(&self, _: &FeedId) {}
}

struct NoPeers(broadcast::Sender<PeerChange>);

impl Peers for NoPeers {
    fn list(&self) -> Vec<Peer> {
        Vec::new()
    }
    fn add(&self, _: &Address, _: &FeedId, _: Option<&str>) -> Result<Option<Peer>, Failure> {
        Ok(None)
    }
    fn remove(&self, _: &FeedId) -> bool {
        false
    }
    fn connect(&self, key: FeedId) -> Pending<'_, Peer> {
        Box::pin(async move { Err(Failure::new(format!("nobody can be dialed here, {key} neither"))) })
    }
    fn connect_at<'a>(&'a self, address: &'a Address, key: FeedId) -> Pending<'a, Peer> {
        Box::pin(async move {
            self.add(address, &key, Some("manual"))?;
            self.connect(key).await
        })
    }
    fn disconnect(&self, _: FeedId) -> Pending<'_, bool> {
        Box::pin(async { Ok(false) })
    }
    fn reconnect(&self) {}
    fn changes(&self) -> broadcast::Receiver<PeerChange> {
        self.0.subscribe()
    }
    fn schedule(&self, _: bool) {}
    fn enable(&self, _: &str, _: bool) -> Result<(), Failure> {
        Ok(())
    }
    fn find(&self, _: &FeedId) -> Option<Peer> {
        None
    }
    fn entries(&self, _: Pool) -> Vec<Entry> {
        Vec::new()
    }
    fn remember(&self, _: &Address, _: &FeedId, _: Map<String, Value>) -> Result<(), Failure> {
        Ok(())
    }
    fn forget(&self, _: &Address, _: &FeedId) {}
    fn stage(&self, _: &Address, _: &FeedId, _: Map<String, Value>) -> Result<bool, Failure> {
        Ok(false)
    }
    fn unstage(&self, _: &Address, _: &FeedId) -> bool {
        false
    }
    fn dial<'a>(&'a self, _: &'a Address, key: FeedId, _: Map<String, Value>) -> Pending<'a, Peer> {
        self.connect(key)
    }
    fn restaged(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }
}

struct NoInvites;

impl Invites for NoInvites {
    fn create(self: Arc<Self>, _: Wish) -> Pending<'static, String> {
        Box::pin(async { Err(Failure::new("no invites here")) })
    }
    fn redeem(self: Arc<Self>, _: FeedId, _: FeedId) -> Pending<'static, Record> {
        Box::pin(async { Err(Failure::new("no invites here")) })
    }
    fn accept(self: Arc<Self>, _: InviteCode) -> Pending<'static, Vec<Record>> {
        Box::pin(async { Err(Failure::new("no invites here")) })
    }
    fn knows(&self, _: &FeedId) -> bool {
        false
    }
}

struct Nowhere;

impl Addresses for Nowhere {
    fn addresses(&self, _: Option<&str>) -> Option<String> {
        None
    }

    fn port_everywhere(&self, _: Scope) -> Option<u16> {
        None
    }
}

/// No hub is used, and one of them can be.
struct NoHubs;

impl Hubs for NoHubs {
    fn list(&self) -> Vec<HubEntry> {
        Vec::new()
    }

    fn add(&self, hub: &HubAddress) -> Result<bool, Failure> {
        if hub.host() == "hub.example" { Ok(true) } else { Err(Failure::new(format!("{hub} is one too many"))) }
    }

    fn remove(&self, hub: &HubAddress) -> bool {
        hub.host() == "hub.example"
    }
}
