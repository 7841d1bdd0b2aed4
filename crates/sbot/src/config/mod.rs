//! The settings of a node: [`Config`], and how it is read from files, the environment and the command line.
//!
//! A program that embeds a node builds its settings in code: [`Config::new`] and then fields or the builder methods. The
//! daemon and the command line read them with [`Config::load`], from the same places and under the same names as
//! ssb-server (ssb-config 3 and `rc`). Later places win:
//!
//! 1. built-in defaults, [`Config::new`];
//! 2. `<data directory>/config`;
//! 3. the file named by `--config`, else by the environment's `<appname>_config`;
//! 4. environment variables `<appname>_<key>`, `__` between the levels: `ssb_friends__hops=2`;
//! 5. options on the command line.
//!
//! The application's name is `ssb`, or what `ssb_appname` says. The data directory is the first of: `--path`, the
//! environment's `<appname>_path` or `ssb_path`, the key `path` in a config file, `~/.<appname>`. The `config` in the
//! directory that a config file points at is not read.
//!
//! A key that nobody knows is a [`Warning`]: configs of ssb-server carry keys of its many plugins. A value of the wrong
//! type is an error that names the place, the key, what was found and what was expected.
//!
//! Beside it: the [`secret`] file and [`manifest`] writing.

mod auth;
mod json;
mod layers;
pub mod manifest;
mod read;
mod rtc;
pub mod secret;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sbot_feed::{FeedId, HmacKey, Keypair, NetworkKey};

pub use auth::Auth;
pub use json::{Position, SyntaxError};
pub use layers::Place;
pub(crate) use layers::nearest;
pub use read::{Loaded, Sources};
pub use rtc::{IceServer, Rtc};

/// Port of the `net` transport (ssb-config `default-ports.js`).
pub const DEFAULT_PORT: u16 = 8008;
/// Port of the `ws` transport (ssb-config `default-ports.js`).
pub const DEFAULT_WS_PORT: u16 = 8989;
/// Most hops that [`Friends::hops`] may be: beyond it everyone is reached anyway.
pub const MAX_HOPS: u8 = 100;

/// Everything that a node can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory: `secret`, `config`, `socket`, `manifest.json`, log and blobs.
    pub path: PathBuf,
    /// The node's identity; `None` to read it from `<path>/secret`, which is created if there is none.
    pub keypair: Option<Keypair>,
    /// Which network this node is part of.
    pub caps: Caps,
    /// Where to listen and how to dial.
    pub connections: Connections,
    /// How long to wait for what.
    pub timers: Timers,
    /// Whose feeds are replicated.
    pub friends: Friends,
    /// How feeds are replicated.
    pub replication: Replication,
    /// Which peers are sought.
    pub peers: Peers,
    /// How peers are met that can't be dialed.
    pub rtc: Rtc,
    /// What blobs are kept and fetched.
    pub blobs: Blobs,
    /// Peers with the owner's rights beside the owner's own key (`master`).
    pub masters: Vec<FeedId>,
    /// Whether invites may name hosts that only a private network knows (`allowPrivate`).
    pub allow_private_invites: bool,
    /// Who may do what.
    pub auth: Auth,
    /// What is logged.
    pub logging: Logging,
}

/// The keys that make a network of its own (`caps`).
#[derive(Debug, Clone, Default)]
pub struct Caps {
    /// `caps.shs`: whoever doesn't know it can't even shake hands. The main network's by default.
    pub shs: NetworkKey,
    /// `caps.sign`: messages are signed under this key too. None on the main network.
    pub sign: Option<HmacKey>,
    /// `caps.invite`: the key of peer invites.
    pub invite: Option<[u8; 32]>,
}

/// From where an address can be reached (ssb-config's scopes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// From this device.
    Device,
    /// From the local network; also written `private`.
    Local,
    /// From the internet.
    Public,
}

/// All scopes.
pub const ALL_SCOPES: [Scope; 3] = [Scope::Device, Scope::Local, Scope::Public];

/// A TCP or websocket address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetIncoming {
    /// Name or IP address of the interface; `None` for every interface.
    pub host: Option<String>,
    /// Port; 0 for any free one.
    pub port: u16,
    /// For whom the address is.
    pub scopes: Vec<Scope>,
    /// Host names under which the world knows this address.
    pub external: Vec<String>,
}

/// A unix socket to listen on. Who can open it is the owner: there is no handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixIncoming {
    /// The socket's path.
    pub path: PathBuf,
}

/// Listening and dialing (`connections`, and the older `host`, `port` and `ws`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// TCP addresses to listen on, all under the secret handshake.
    pub net: Vec<NetIncoming>,
    /// Unix sockets to listen on.
    pub unix: Vec<UnixIncoming>,
    /// Websocket addresses to listen on.
    pub ws: Vec<NetIncoming>,
    /// Whether TCP addresses may be dialed.
    pub dial_net: bool,
    /// Whether onion addresses may be dialed.
    pub dial_onion: bool,
    /// Whether websocket addresses may be dialed.
    pub dial_ws: bool,
}

/// Waiting times (`timers` and `timeout`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// A handshake must be done in this time (`timers.handshake`, ms).
    pub handshake: Duration,
    /// A connection on which nothing happens for this long is closed (`timers.inactivity`, else `timeout`, ms); `None`
    /// to keep it.
    pub inactivity: Option<Duration>,
    /// Time between two pings on a connection (`timers.ping`, ms).
    pub ping: Duration,
}

/// Whose feeds are replicated (`friends`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Friends {
    /// `friends.hops`: feeds at most this far from our own are replicated; 0 for our own alone, 1 for those we follow.
    pub hops: u8,
}

/// How feeds are replicated (`replicate`, `ebt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replication {
    /// `ebt.enabled`: use epidemic broadcast trees where the peer knows them.
    pub ebt: bool,
    /// `replicate.legacy`: ask peers without them by `createHistoryStream`.
    pub legacy: bool,
}

/// Which peers are sought (`conn`, `gossip`, `seeds`, `pub`, `local`, `mdns`, `dht`, `offline`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// `conn.autostart`, and not `offline`: dial by ourselves. If not, only `gossip.connect` and `conn.connect` dial.
    pub autostart: bool,
    /// `seeds`: multiserver addresses that are always worth a try.
    pub seeds: Vec<String>,
    /// `gossip.connections`: connections to hold to peers further away than the local network.
    pub connections: u16,
    /// `local` and `gossip.local`: find and dial peers on the local network.
    pub local: bool,
    /// `mdns`: find and dial peers on the local network by multicast DNS.
    pub mdns: bool,
    /// `dht.enabled`: announce ourselves in the distributed hash table, and look up those that we follow.
    pub dht: bool,
    /// `dht.bootstrap`: `HOST:PORT` of nodes by which to join another table than everybody's.
    pub dht_bootstrap: Vec<String>,
    /// `pub`, `gossip.pub`, `gossip.autoPopulate`, `conn.populatePubs`: know the pubs that feeds tell of.
    pub pubs: bool,
    /// `conn.pubHops`: whose word counts for that, in hops from us.
    pub pub_hops: u8,
    /// `--record-actions` of `sbot server`: a file in which everything that happens to peers is recorded.
    pub record: Option<PathBuf>,
}

/// What blobs are kept and fetched (`blobs`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blobs {
    /// `blobs.sympathy`: fetch what peers want if they are at most this far from the wish.
    pub sympathy: u8,
    /// `blobs.stingy`: serve only what is our own wish.
    pub stingy: bool,
    /// `blobs.legacy`: speak to peers that know no `createWants`.
    pub legacy: bool,
    /// `blobs.pushy`: copies that a pushed blob must have elsewhere.
    pub pushy: u8,
    /// `blobs.max`: largest blob fetched from a peer, in bytes.
    pub max: u64,
    /// `blobs.quota`: most bytes of all blobs together. When it is reached nothing is fetched for others.
    pub quota: Option<u64>,
    /// `blobs.authorQuota`: most bytes of the blobs that one author's messages mention.
    pub author_quota: Option<u64>,
    /// `blobs.maxAge`: how long a blob of others is kept that nobody reads.
    pub max_age: Option<Duration>,
    /// `blobs.mentions`: which blobs are fetched by themselves.
    pub mentions: BlobMentions,
}

/// Which blobs are fetched because new messages mention them (`blobs.mentions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlobMentions {
    /// `blobs.mentions.hops`: messages of people so far from us; of nobody if `None`.
    pub hops: Option<u8>,
    /// `blobs.mentions.types`: messages of these types; of all if there are none.
    pub types: Vec<String>,
    /// `blobs.mentions.max`: largest such blob, in bytes; `blobs.max` if `None`.
    pub max: Option<u64>,
}

/// How much is logged (`logging.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// `error`: this node is broken.
    Error,
    /// `warning`: someone should look.
    Warning,
    /// `notice`: what is worth a line a day.
    #[default]
    Notice,
    /// `info`, `debug`: enough to follow one connection.
    Info,
    /// `trace`: everything.
    Trace,
}

/// What is logged (`logging`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logging {
    /// `logging.level`.
    pub level: LogLevel,
}

impl Config {
    /// The defaults, with `path` as data directory: main network, TCP on every interface at port 8008, a unix socket at
    /// `<path>/socket`, feeds within 3 hops.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            connections: Connections {
                net: vec![NetIncoming::everywhere(DEFAULT_PORT)],
                unix: vec![UnixIncoming { path: path.join("socket") }],
                ws: Vec::new(),
                dial_net: true,
                dial_onion: true,
                dial_ws: true,
            },
            path,
            keypair: None,
            caps: Caps::default(),
            timers: Timers {
                handshake: Duration::from_secs(5),
                inactivity: Some(Duration::from_secs(600)),
                ping: Duration::from_secs(300),
            },
            friends: Friends { hops: 3 },
            replication: Replication { ebt: true, legacy: true },
            peers: Peers {
                autostart: true,
                seeds: Vec::new(),
                connections: 4,
                local: true,
                mdns: false,
                dht: false,
                dht_bootstrap: Vec::new(),
                pubs: true,
                pub_hops: 2,
                record: None,
            },
            rtc: Rtc::default(),
            blobs: Blobs {
                sympathy: 3,
                stingy: false,
                legacy: true,
                pushy: 3,
                max: 5 * 1024 * 1024,
                quota: None,
                author_quota: None,
                max_age: None,
                mentions: BlobMentions::default(),
            },
            masters: Vec::new(),
            allow_private_invites: false,
            auth: Auth::default(),
            logging: Logging::default(),
        }
    }

    /// With this identity and no `secret` file.
    #[must_use]
    pub fn with_keypair(mut self, keypair: Keypair) -> Self {
        self.keypair = Some(keypair);
        self
    }

    /// On this network.
    #[must_use]
    pub fn with_network(mut self, key: NetworkKey) -> Self {
        self.caps.shs = key;
        self
    }

    /// With messages signed under `key` too.
    #[must_use]
    pub fn with_hmac(mut self, key: HmacKey) -> Self {
        self.caps.sign = Some(key);
        self
    }

    /// Listening on TCP at `host` and `port` alone; port 0 takes any free one.
    #[must_use]
    pub fn with_listener(mut self, host: impl Into<String>, port: u16) -> Self {
        self.connections.net = vec![NetIncoming { host: Some(host.into()), ..NetIncoming::everywhere(port) }];
        self
    }

    /// Without a unix socket.
    #[must_use]
    pub fn without_socket(mut self) -> Self {
        self.connections.unix.clear();
        self
    }

    /// Replicating feeds within `hops` hops.
    #[must_use]
    pub fn with_hops(mut self, hops: u8) -> Self {
        self.friends.hops = hops;
        self
    }

    /// The path of the `secret` file.
    pub fn secret_path(&self) -> PathBuf {
        self.path.join("secret")
    }

    /// The path of the unix socket for clients: the first that is listened on, else where one would be.
    pub fn socket_path(&self) -> PathBuf {
        self.connections.unix.first().map_or_else(|| self.path.join("socket"), |unix| unix.path.clone())
    }

    /// The directory of the message log and its indexes.
    pub fn store_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The path of `manifest.json`.
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    /// The identity: [`Config::keypair`], else the `secret` file's, which is created if there is none.
    ///
    /// # Errors
    /// As [`secret::load_or_create`].
    pub fn identity(&self) -> Result<Keypair, secret::SecretFileError> {
        match &self.keypair {
            Some(keypair) => Ok(keypair.clone()),
            None => secret::load_or_create(&self.secret_path()),
        }
    }
}

impl NetIncoming {
    /// Every interface, every scope.
    pub fn everywhere(port: u16) -> Self {
        Self { host: None, port, scopes: ALL_SCOPES.to_vec(), external: Vec::new() }
    }
}

impl LogLevel {
    /// The level's name in `logging.level`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Trace => "trace",
        }
    }

    /// The level of ssb-server's that is meant, and `tracing`'s names for those that it lacks.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "error" => Self::Error,
            "warning" | "warn" => Self::Warning,
            "notice" => Self::Notice,
            "info" | "debug" => Self::Info,
            "trace" => Self::Trace,
            _ => return None,
        })
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A config file can't be read.
    #[error("can't read the config file {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A config file is no JSON with comments.
    #[error("{} is no JSON: {source}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where and what. Part of this error's text, and so not its source.
        source: SyntaxError,
    },
    /// A setting is not what it must be.
    #[error("{place}: {key} must be {expected}, found {found}")]
    Type {
        /// Where it was set.
        place: Place,
        /// The dotted key path.
        key: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Two settings can't both hold, or one is of no use.
    #[error("{place}: {message}")]
    Conflict {
        /// Where one of them was set.
        place: Place,
        /// Which they are.
        message: String,
    },
    /// A rule of the policy can't be set so, or there is no such setting, where each counts.
    #[error("{place}: {key}: {message}")]
    Rule {
        /// Where it was set.
        place: Place,
        /// The dotted key path.
        key: String,
        /// What is wrong, and what is known.
        message: String,
    },
    /// There is no home directory, and nothing else says where the data is.
    #[error("no data directory: HOME is not set; name one with --path")]
    NoDirectory,
}

/// Something in the settings that someone should look at, and that keeps nothing from running.
#[derive(Debug, Clone, PartialEq)]
pub enum Warning {
    /// Nobody knows this key.
    UnknownKey {
        /// Where it was set.
        place: Place,
        /// The dotted key path.
        key: String,
        /// The known key that comes closest.
        nearest: Option<String>,
    },
    /// The key is ssb-server's, and changes nothing here.
    NoEffect {
        /// Where it was set.
        place: Place,
        /// The dotted key path.
        key: String,
        /// Why it changes nothing.
        why: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { place, key, nearest: Some(known) } => {
                write!(f, "{place}: unknown key {key}, ignored (did you mean {known}?)")
            }
            Self::UnknownKey { place, key, nearest: None } => write!(f, "{place}: unknown key {key}, ignored"),
            Self::NoEffect { place, key, why } => write!(f, "{place}: {key} has no effect: {why}"),
        }
    }
}
