//! Dialing: from an address to a connection whose other end is known.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sbot_feed::{Keypair, NetworkKey};
use sbot_shs::ShsError;
use tokio::time::timeout;

use crate::address::{Address, Route, key_text};
use crate::connection::{Connection, Direction};
use crate::net::Net;
use crate::transport::{Raw, Transport};
use crate::unix::Unix;

/// Limits on dialing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialSettings {
    /// Time for a connection to one route, name look-up included.
    pub connect_timeout: Duration,
    /// Time for the handshake that follows.
    pub handshake_timeout: Duration,
}

impl Default for DialSettings {
    fn default() -> Self {
        // ssb-conn gives an attempt 10 s (`conn-hub.js`), ssb-config's `timers.handshake` is 5 s.
        DialSettings { connect_timeout: Duration::from_secs(10), handshake_timeout: Duration::from_secs(5) }
    }
}

/// Why a peer was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No transport here knows this route.
    #[error("can't dial {address}: only {known} are known")]
    Unknown {
        /// The route.
        address: String,
        /// The names of the transports.
        known: String,
    },
    /// The route says neither `shs:KEY` nor `noauth`, or what it says can't be.
    #[error("can't dial {address}: it doesn't say which key to expect there")]
    NoKey {
        /// The route.
        address: String,
    },
    /// Nothing answers there.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// The route.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Nothing answers in time.
    #[error("no {what} from {address} within {after:?}")]
    TimedOut {
        /// The route.
        address: String,
        /// `connection` or `handshake`.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// Somebody answers, but not whom we want or in a way that we understand.
    #[error("{address}: {source}")]
    Handshake {
        /// The route.
        address: String,
        /// The reason.
        source: ShsError,
    },
    /// All alternatives of an address failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    All(Vec<DialError>),
}

/// Dials peers.
#[derive(Clone)]
pub struct Dialer {
    transports: Arc<[Box<dyn Transport>]>,
    network: NetworkKey,
    own: Keypair,
    settings: DialSettings,
}

impl Dialer {
    /// Dials over TCP and unix sockets.
    pub fn new(network: NetworkKey, own: Keypair, settings: DialSettings) -> Self {
        Self::with_transports(vec![Box::new(Net), Box::new(Unix)], network, own, settings)
    }

    /// Dials over these transports; the first that knows a route takes it.
    pub fn with_transports(
        transports: Vec<Box<dyn Transport>>,
        network: NetworkKey,
        own: Keypair,
        settings: DialSettings,
    ) -> Self {
        Dialer { transports: transports.into(), network, own, settings }
    }

    /// Tries the routes of an address in their order, until one works.
    ///
    /// # Errors
    /// The error of the only route, or [`DialError::All`].
    pub async fn dial(&self, address: &Address) -> Result<Connection, DialError> {
        let mut errors = Vec::new();
        for route in address.routes() {
            match self.dial_route(route).await {
                Ok(connection) => return Ok(connection),
                Err(error) => errors.push(error),
            }
        }
        Err(if errors.len() == 1 { errors.remove(0) } else { DialError::All(errors) })
    }

    /// Dials one route. With a seed in it, as in an invite, with the key that the seed makes in place of ours.
    ///
    /// # Errors
    /// [`DialError`], but never [`DialError::All`].
    pub async fn dial_route(&self, route: &Route) -> Result<Connection, DialError> {
        let server = route.key();
        if server.is_none() && !route.is_noauth() {
            return Err(DialError::NoKey { address: shown(route) });
        }
        let endpoint = route.endpoint();
        let Some(connecting) = self.transports.iter().find_map(|transport| transport.dial(&endpoint)) else {
            let known: Vec<_> = self.transports.iter().map(|transport| transport.name()).collect();
            return Err(DialError::Unknown { address: shown(route), known: known.join(", ") });
        };
        let Raw { read, write, address, .. } = within(self.settings.connect_timeout, "connection", route, connecting)
            .await?
            .map_err(|source| DialError::Connect { address: shown(route), source })?;
        let Some(server) = server else {
            return Ok(local(self.own.id(), read, write, &address, Direction::Dialed));
        };
        let seeded = route.seed().map(Keypair::from_seed);
        let own = seeded.as_ref().unwrap_or(&self.own);
        let shaking = sbot_shs::dial_split(read, write, &self.network, own, &server);
        let secure = within(self.settings.handshake_timeout, "handshake", route, shaking)
            .await?
            .map_err(|source| DialError::Handshake { address: shown(route), source })?;
        Ok(Connection {
            remote: secure.remote,
            local_client: secure.remote == self.own.id(),
            address: format!("{address}~shs:{}", key_text(&secure.remote)),
            direction: Direction::Dialed,
            read: Box::new(secure.reader),
            write: Box::new(secure.writer),
        })
    }
}

/// Dials over TCP and unix sockets with the default settings.
///
/// # Errors
/// As [`Dialer::dial`].
pub async fn dial(address: &Address, network: &NetworkKey, own: &Keypair) -> Result<Connection, DialError> {
    Dialer::new(*network, own.clone(), DialSettings::default()).dial(address).await
}

/// A connection without a handshake: the other end is us.
pub(crate) fn local(
    own: sbot_feed::FeedId,
    read: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    write: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    address: &str,
    direction: Direction,
) -> Connection {
    let address = format!("{address}~noauth:{}", key_text(&own));
    Connection { remote: own, local_client: true, address, direction, read, write }
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    route: &Route,
    work: impl Future<Output = T>,
) -> Result<T, DialError> {
    timeout(limit, work).await.map_err(|_| DialError::TimedOut { address: shown(route), what, after: limit })
}

/// A route for messages: without the seed of an invite, which is a secret.
fn shown(route: &Route) -> String {
    if route.seed().is_none() {
        return route.to_string();
    }
    let transport = route.protocols().first().map(ToString::to_string).unwrap_or_default();
    format!("{transport}~shs:{}", route.key().map(|key| key_text(&key)).unwrap_or_default())
}
