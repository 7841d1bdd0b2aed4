//! What the API needs of the peer manager, and a peer as clients see it.

use std::pin::Pin;

use sbot_feed::FeedId;
use sbot_multiserver::Address;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{broadcast, watch};

use super::failure::Failure;

/// What comes of a request that takes a while.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// What the API needs of the peer manager.
pub trait Peers: Send + Sync {
    /// All known peers, in the order in which they became known.
    fn list(&self) -> Vec<Peer>;
    /// One of them.
    fn find(&self, key: &FeedId) -> Option<Peer>;
    /// Remembers a peer under an address; counts one announcement more if it is known. `None` if the address is ours.
    ///
    /// # Errors
    /// If there are too many, or the address can't be dialed at all.
    fn add(&self, address: &Address, key: &FeedId, source: Option<&str>) -> Result<Option<Peer>, Failure>;
    /// Forgets a peer; answers whether it was known.
    fn remove(&self, key: &FeedId) -> bool;
    /// Dials a known peer; comes back when the connection is up. A peer that is connected already stays so.
    fn connect(&self, key: FeedId) -> Pending<'_, Peer>;
    /// As [`Peers::connect`], for an address that the user gives, which is remembered.
    fn connect_at<'a>(&'a self, address: &'a Address, key: FeedId) -> Pending<'a, Peer>;
    /// Hangs up; comes back when the connection is closed. Answers whether there was one.
    fn disconnect(&self, key: FeedId) -> Pending<'_, bool>;
    /// Hangs up on everyone and dials again.
    fn reconnect(&self);
    /// What happens to peers.
    fn changes(&self) -> broadcast::Receiver<PeerChange>;
    /// Switches dialing of itself on or off (`conn.start`, `conn.stop`).
    fn schedule(&self, on: bool);
    /// Switches a kind of discovery on or off (`gossip.enable`, `gossip.disable`).
    ///
    /// # Errors
    /// If there is no such kind, or it can't be switched while the server runs.
    fn enable(&self, kind: &str, on: bool) -> Result<(), Failure>;

    /// What a pool of ssb-conn holds.
    fn entries(&self, pool: Pool) -> Vec<Entry>;
    /// Remembers an address (`conn.remember`), and adds what a client says of it to what is known.
    ///
    /// # Errors
    /// If there are too many, or it is our own.
    fn remember(&self, address: &Address, key: &FeedId, data: Map<String, Value>) -> Result<(), Failure>;
    /// Forgets an address that was remembered (`conn.forget`); a link with its peer stays.
    fn forget(&self, address: &Address, key: &FeedId);
    /// Shows an address to the user (`conn.stage`). Answers whether it wasn't shown before; also `false` if its peer is
    /// connected or is not to be talked with.
    ///
    /// # Errors
    /// If there are too many.
    fn stage(&self, address: &Address, key: &FeedId, data: Map<String, Value>) -> Result<bool, Failure>;
    /// Shows an address no more (`conn.unstage`); answers whether it was shown.
    fn unstage(&self, address: &Address, key: &FeedId) -> bool;
    /// Dials an address without remembering it (`conn.connect`); comes back when the connection is up.
    fn dial<'a>(&'a self, address: &'a Address, key: FeedId, data: Map<String, Value>) -> Pending<'a, Peer>;
    /// Changes whenever what is staged may have.
    fn restaged(&self) -> watch::Receiver<u64>;
}

/// An address and what is known of it, as ssb-conn shows it.
pub type Entry = (String, Map<String, Value>);

/// Which addresses of ssb-conn's are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Those that are remembered.
    Db,
    /// Those that are being dialed, are connected, or hang up.
    Hub,
    /// Those that are only shown to the user.
    Staging,
}

/// A known peer, as `gossip.peers` shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Where it listens, as a multiserver address.
    pub address: String,
    /// Its key.
    #[serde(serialize_with = "as_text")]
    pub key: FeedId,
    /// Its host, if the address has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port, if the address has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Where the address comes from: `manual`, `stored`, `seed`, `local`…
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How often it was announced.
    pub announcers: u32,
    /// How long connections lasted, in milliseconds.
    pub duration: Option<Durations>,
    /// What is going on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PeerState>,
    /// Since when, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_change: Option<f64>,
    /// How often dialing has failed in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<u32>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether we dialed (and not it us).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<bool>,
    /// Why it is connected or isn't, for people.
    pub why: String,
    /// When it is dialed next, in milliseconds since 1970; a time that has passed means as soon as there is room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<u64>,
    /// How far it is from us in the social graph: 1 for whom we follow, nothing for strangers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<u32>,
    /// How much a link with it is worth: `high`, `medium`, `low` or `banned`.
    pub priority: &'static str,
    /// What kind of link its address makes: `lan`, `room`, `hub`, `internet` or `onion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
}

impl Peer {
    /// One of which nothing but the key is known any more.
    pub fn unknown(key: FeedId) -> Self {
        Peer {
            address: String::new(),
            key,
            host: None,
            port: None,
            source: None,
            announcers: 0,
            duration: None,
            state: None,
            state_change: None,
            failure: None,
            error: None,
            client: None,
            why: "not known".into(),
            next_try: None,
            hops: None,
            priority: "low",
            kind: None,
        }
    }
}

/// Figures of how long connections lasted.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Durations {
    /// The mean, in milliseconds.
    pub mean: f64,
    /// The standard deviation.
    pub stdev: f64,
    /// How many there were.
    pub count: u32,
    /// The sum.
    pub sum: f64,
    /// The sum of squares.
    pub sqsum: f64,
}

/// What is going on with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// It is being dialed.
    Connecting,
    /// It is connected.
    Connected,
    /// The connection is being closed.
    Disconnecting,
}

/// Something that happened to a peer.
#[derive(Debug, Clone)]
pub struct PeerChange {
    /// What.
    pub kind: PeerChangeKind,
    /// To whom.
    pub peer: Peer,
    /// What `conn.peers` shows of it from now on, if it does.
    pub entry: Option<Entry>,
}

/// What happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerChangeKind {
    /// It became known.
    Discover,
    /// It is being dialed. Not told by `gossip.changes`.
    Connecting,
    /// It is connected.
    Connect,
    /// It couldn't be connected.
    ConnectFailure,
    /// Its connection is being closed. Not told by `gossip.changes`.
    Disconnecting,
    /// It is no longer connected.
    Disconnect,
    /// It was forgotten.
    Remove,
}

/// A key as its reference.
pub(super) fn as_text<S: serde::Serializer>(id: &FeedId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
