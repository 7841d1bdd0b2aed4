//! Listening: everyone who dials us and proves who it is, within bounds on those who don't.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_shs::ShsError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::address::{Endpoint, Protocol, key_text};
use crate::connection::{Connection, Direction};
use crate::dialer::local;
use crate::half_open::HalfOpen;
use crate::hub::RTC;
use crate::log::Seldom;
use crate::net::Net;
use crate::transport::{Acceptor, Raw, Transport};
use crate::unix::Unix;

/// Connections that are ready and wait to be taken. Few: they hold a place of those under way.
const READY: usize = 16;
/// Pause after the system could not accept (no file descriptors left): others may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Asked for everyone who has proven its key, before it learns whether it is welcome; the error is the reason against.
pub type Authorise = Arc<dyn Fn(&FeedId) -> Result<(), String> + Send + Sync>;

/// How the other end of a connection becomes known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protection {
    /// By the secret handshake.
    Shs,
    /// Not at all: only we can reach this place.
    Noauth,
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bind {
    /// Where. Port 0 is any free port; the hosts `::` and empty are all interfaces.
    pub endpoint: Endpoint,
    /// What a connection has to go through.
    pub protection: Protection,
}

impl Bind {
    /// TCP with the secret handshake.
    pub fn net(host: &str, port: u16) -> Self {
        Bind { endpoint: Endpoint::Net { host: host.to_owned(), port }, protection: Protection::Shs }
    }

    /// Whoever offers a connection over WebRTC, by any hub, with the secret handshake.
    pub fn rtc() -> Self {
        Bind { endpoint: Endpoint::Other(Protocol::new(RTC, Vec::new())), protection: Protection::Shs }
    }

    /// A unix socket without a handshake.
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Self {
        Bind { endpoint: Endpoint::Unix { path: path.into() }, protection: Protection::Noauth }
    }
}

/// Limits on those who dial us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenSettings {
    /// Handshakes under way, in all.
    pub half_open: usize,
    /// Handshakes under way with one IPv4 address or one /64 of IPv6.
    pub half_open_per_host: usize,
    /// Time for a handshake.
    pub handshake_timeout: Duration,
}

impl Default for ListenSettings {
    fn default() -> Self {
        // The timeout is ssb-config's `timers.handshake`.
        ListenSettings { half_open: 256, half_open_per_host: 16, handshake_timeout: Duration::from_secs(5) }
    }
}

/// We can't listen there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refuses.
    #[error("can't listen on {place}: {source}")]
    System {
        /// Where.
        place: String,
        /// The system's reason.
        source: io::Error,
    },
    /// No transport here knows this place.
    #[error("can't listen on {0}: no such transport")]
    Unknown(String),
}

/// What has come of those who dialed us so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that the system gave us.
    pub arrived: u64,
    /// Connections whose other end became known.
    pub accepted: u64,
    /// Proven peers that [`Authorise`] refused.
    pub refused: u64,
    /// Handshakes that failed or were broken off by the other side.
    pub failed: u64,
    /// Handshakes that took too long.
    pub timed_out: u64,
    /// Handshakes that had to make room for others.
    pub crowded_out: u64,
    /// Handshakes under way.
    pub half_open: u64,
}

#[derive(Default)]
struct Counters {
    arrived: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    crowded_out: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What all places share.
struct Shared {
    network: NetworkKey,
    own: Keypair,
    authorise: Authorise,
    settings: ListenSettings,
    half_open: HalfOpen,
    counters: Counters,
    ready: mpsc::Sender<Connection>,
    refusals: Seldom,
    failures: Seldom,
    crowds: Seldom,
    troubles: Seldom,
}

/// Listens at some places. Dropping it closes them and breaks off the handshakes under way; connections that were
/// taken live on.
pub struct Listener {
    endpoints: Vec<Endpoint>,
    ready: mpsc::Receiver<Connection>,
    shared: Arc<Shared>,
    /// One for each place; each owns the handshakes of its place.
    tasks: JoinSet<()>,
}

impl Listener {
    /// Listens at all `places`, on TCP and unix sockets. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`] of the first place that doesn't work; then none is listened at.
    pub async fn bind(
        places: &[Bind],
        network: NetworkKey,
        own: Keypair,
        authorise: Authorise,
        settings: ListenSettings,
    ) -> Result<Self, ListenError> {
        Self::with_transports(&[&Net, &Unix], places, network, own, authorise, settings).await
    }

    /// Listens at all `places`, over these transports; the first that knows a place takes it. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub async fn with_transports(
        transports: &[&dyn Transport],
        places: &[Bind],
        network: NetworkKey,
        own: Keypair,
        authorise: Authorise,
        settings: ListenSettings,
    ) -> Result<Self, ListenError> {
        let mut acceptors = Vec::new();
        for place in places {
            let listening = transports.iter().find_map(|transport| transport.listen(&place.endpoint));
            let listening = listening.ok_or_else(|| ListenError::Unknown(shown(&place.endpoint)))?;
            let acceptor =
                listening.await.map_err(|source| ListenError::System { place: shown(&place.endpoint), source })?;
            acceptors.push((acceptor, place.protection));
        }
        Ok(Self::over(acceptors, network, own, authorise, settings))
    }

    /// Listens at places that are open already, of any transport. Must be called within a tokio runtime.
    pub fn over(
        acceptors: Vec<(Box<dyn Acceptor>, Protection)>,
        network: NetworkKey,
        own: Keypair,
        authorise: Authorise,
        settings: ListenSettings,
    ) -> Self {
        let (ready, receiver) = mpsc::channel(READY);
        let shared = Arc::new(Shared {
            network,
            own,
            authorise,
            settings,
            half_open: HalfOpen::new(settings.half_open, settings.half_open_per_host),
            counters: Counters::default(),
            ready,
            refusals: Seldom::default(),
            failures: Seldom::default(),
            crowds: Seldom::default(),
            troubles: Seldom::default(),
        });
        let endpoints = acceptors.iter().map(|(acceptor, _)| acceptor.endpoint().clone()).collect();
        let mut tasks = JoinSet::new();
        for (acceptor, protection) in acceptors {
            tasks.spawn(serve(acceptor, protection, Arc::clone(&shared)));
        }
        Listener { endpoints, ready: receiver, shared, tasks }
    }

    /// The next connection. Cancel-safe.
    pub async fn accept(&mut self) -> Connection {
        match self.ready.recv().await {
            Some(connection) => connection,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Where it listens, in the order given, with the ports that the system chose.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The first TCP port.
    pub fn port(&self) -> Option<u16> {
        self.endpoints.iter().find_map(|endpoint| match endpoint {
            Endpoint::Net { port, .. } => Some(*port),
            _ => None,
        })
    }

    /// What has come of those who dialed us so far.
    pub fn counts(&self) -> Counts {
        let Shared { counters, half_open, .. } = &*self.shared;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            arrived: get(&counters.arrived),
            accepted: get(&counters.accepted),
            refused: get(&counters.refused),
            failed: get(&counters.failed),
            timed_out: get(&counters.timed_out),
            crowded_out: get(&counters.crowded_out),
            half_open: half_open.len() as u64,
        }
    }

    /// Closes all places, and waits until they are closed.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Takes what comes at one place.
async fn serve(mut acceptor: Box<dyn Acceptor>, protection: Protection, shared: Arc<Shared>) {
    let mut handshakes = JoinSet::new();
    loop {
        let raw = tokio::select! {
            Some(_) = handshakes.join_next() => continue,
            raw = acceptor.accept() => raw,
        };
        let raw = match raw {
            Ok(raw) => raw,
            Err(error) => {
                if let Some(more) = shared.troubles.due() {
                    warn!(%error, more, "can't accept connections");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        count(&shared.counters.arrived, 1);
        let (number, ended) = shared.half_open.enter(raw.origin);
        if ended > 0 {
            count(&shared.counters.crowded_out, ended as u64);
            if let Some(more) = shared.crowds.due() {
                warn!(from = raw.address, more, "too many handshakes under way: the oldest had to make room");
            }
        }
        let place = Place { shared: Arc::clone(&shared), number };
        let task = handshakes.spawn(async move {
            if let Some(connection) = welcome(raw, protection, &place.shared).await {
                count(&place.shared.counters.accepted, 1);
                // Fails only when the listener is gone.
                let _ = place.shared.ready.send(connection).await;
            }
        });
        shared.half_open.started(number, task);
    }
}

/// A place among the handshakes under way, given back however the handshake ends.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.half_open.leave(self.number);
    }
}

/// From bytes to a known peer.
async fn welcome(raw: Raw, protection: Protection, shared: &Shared) -> Option<Connection> {
    let Raw { read, write, address, .. } = raw;
    let own = shared.own.id();
    if protection == Protection::Noauth {
        return Some(local(own, read, write, &address, Direction::Accepted));
    }
    let authorise = |client: &FeedId| (shared.authorise)(client);
    let shaking = sbot_shs::accept_split(read, write, &shared.network, &shared.own, authorise);
    match timeout(shared.settings.handshake_timeout, shaking).await {
        Ok(Ok(secure)) => Some(Connection {
            remote: secure.remote,
            local_client: secure.remote == own,
            address: format!("{address}~shs:{}", key_text(&secure.remote)),
            direction: Direction::Accepted,
            read: Box::new(secure.reader),
            write: Box::new(secure.writer),
        }),
        Ok(Err(ShsError::Refused { client, reason })) => {
            count(&shared.counters.refused, 1);
            match shared.refusals.due() {
                Some(more) => info!(from = address, peer = %client, reason, more, "refused a peer"),
                None => debug!(from = address, peer = %client, reason, "refused a peer"),
            }
            None
        }
        Ok(Err(error)) => {
            count(&shared.counters.failed, 1);
            match shared.failures.due() {
                Some(more) => info!(from = address, %error, more, "no link with one who dialed us"),
                None => debug!(from = address, %error, "no link with one who dialed us"),
            }
            None
        }
        Err(_) => {
            count(&shared.counters.timed_out, 1);
            match shared.failures.due() {
                Some(more) => info!(from = address, more, "one who dialed us stalled in the handshake"),
                None => debug!(from = address, "one who dialed us stalled in the handshake"),
            }
            None
        }
    }
}

fn shown(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Net { host, port } if host.is_empty() => format!("port {port} of all interfaces"),
        Endpoint::Net { host, port } => format!("{host}:{port}"),
        Endpoint::Unix { path } => path.display().to_string(),
        Endpoint::Rtc { hub, .. } => hub.to_string(),
        Endpoint::Other(protocol) => protocol.to_string(),
    }
}
