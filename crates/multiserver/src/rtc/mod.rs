//! WebRTC: connections between peers that have no public address, over a data channel.
//!
//! [`Rtc`] is the transport. It speaks to no hub itself: what it has to say comes out of the channel that [`Rtc::new`]
//! gives ([`Outgoing`]), and what a hub says goes in by [`Rtc::signalled`].
//!
//! ```text
//!      dials                                   answers
//!        │── offer ───────────▶ hub ─────────────▶│     a session, drawn at random by who offers
//!        │◀─ answer ─────────── hub ◀─────────────│
//!        │◀─ candidates ──────▶ hub ◀────────────▶│     both, as they are found
//!        │◀════════ ICE, DTLS, SCTP: one data channel, reliable and ordered ════════▶│
//! ```
//! - The signals have the shapes of simple-peer ([`Signal`]), so that a browser is a peer.
//! - Who offers is the client of the secret handshake that follows, and until that nobody is believed.
//! - When two peers offer to each other, the offer of the one with the smaller key stands: it ignores the other's. The
//!   other answers, and its own offer comes to nothing, or to a connection if the one that it answered was a lie.
//! - A host's limits ([`Raw::origin`]) are those of the address at which the peer turned out to be, as with TCP: ICE has
//!   seen an answer from there. Peers behind one relay share those of the relay.
//!
//! Source: simple-peer 9.11 `index.js`, RFC 8831 (data channels), RFC 8445 (ICE), RFC 8838 (trickled candidates).

mod inlet;
mod link;
mod opening;
mod pipe;
mod ports;
mod reflexive;
mod relay;
mod servers;
mod signal;
mod table;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sbot_feed::FeedId;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::opening::{Opened, Signalling};
pub use self::servers::{IceServer, IceServerError};
pub use self::signal::{Candidate, MAX_CANDIDATE, MAX_SDP, Signal, SignalError};
use self::table::{Key, MAX_SIGNALS, Table, Verdict};
use crate::address::Endpoint;
use crate::hub::{HubAddress, RTC, Session};
use crate::listener::Bind;
use crate::net::limited;
use crate::transport::{Acceptor, Origin, Pending, Raw, Transport};

/// Signals that wait to be sent by the hubs: those of all attempts that may be under way at once.
const OUTGOING: usize = 512;
/// Connections that are open and wait to be accepted.
const ARRIVED: usize = 16;

/// How connections are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtcSettings {
    /// Servers that tell us our address or pass packets on. None by default.
    pub ice_servers: Vec<IceServer>,
    /// Only by the servers that pass packets on, so that a peer doesn't learn our address.
    pub relay_only: bool,
    /// The addresses of this machine to be reached at. If there are none: all but loopback, or loopback if there is no
    /// other.
    pub addresses: Vec<IpAddr>,
    /// Time for a connection, from the offer until the data channel is open. Who dials may give up sooner.
    pub open_timeout: Duration,
}

impl Default for RtcSettings {
    fn default() -> Self {
        // A hub far away and a relay over TCP take some seconds. Who offers is somebody's dial, which has 10 at most.
        RtcSettings {
            ice_servers: Vec::new(),
            relay_only: false,
            addresses: Vec::new(),
            open_timeout: Duration::from_secs(20),
        }
    }
}

/// What is to be told to a peer by a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// By which hub.
    pub hub: HubAddress,
    /// To whom.
    pub to: FeedId,
    /// In which attempt.
    pub session: Session,
    /// What.
    pub signal: Signal,
}

/// The transport `rtc`. Clones are the same transport.
#[derive(Clone)]
pub struct Rtc {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RtcSettings,
    outgoing: mpsc::Sender<Outgoing>,
    inner: Mutex<Inner>,
}

struct Inner {
    table: Table,
    attempts: HashMap<Key, Handles>,
    /// Where open connections go that others have offered, and what runs their making.
    acceptor: Option<(mpsc::Sender<Raw>, Handle)>,
}

struct Handles {
    heard: mpsc::Sender<Signal>,
    /// Of an offer under answer.
    task: Option<AbortHandle>,
}

impl Rtc {
    /// A transport for the peer `own`, and what it has to say to others. Whoever sends that on does so in order.
    pub fn new(own: FeedId, settings: RtcSettings) -> (Self, mpsc::Receiver<Outgoing>) {
        let (outgoing, receiver) = mpsc::channel(OUTGOING);
        let inner = Inner { table: Table::new(own), attempts: HashMap::new(), acceptor: None };
        (Rtc { shared: Arc::new(Shared { settings, outgoing, inner: Mutex::new(inner) }) }, receiver)
    }

    /// Takes what `hub` says that `from` says. Never waits; what is ill-formed, too much or to nobody is dropped.
    pub fn signalled(&self, hub: &HubAddress, from: FeedId, session: Session, signal: serde_json::Value) {
        let signal = match serde_json::from_value::<Signal>(signal) {
            Ok(signal) => signal,
            Err(error) => return tracing::debug!(%hub, %from, %error, "a signal that is none"),
        };
        let key = (from, session);
        let mut inner = self.shared.inner.lock();
        match inner.table.heard(Instant::now(), hub, key, &signal) {
            Verdict::Drop(reason) => tracing::debug!(%hub, %from, %session, reason, "dropped a signal"),
            Verdict::Pass => {
                if let Some(attempt) = inner.attempts.get(&key) {
                    // There is room for as many as the table lets through.
                    let _ = attempt.heard.try_send(signal);
                }
            }
            Verdict::Answer { instead_of } => {
                inner.give_up(&instead_of);
                let acceptor = inner.acceptor.clone();
                drop(inner);
                if let (Signal::Offer { sdp }, Some((arrived, handle))) = (signal, acceptor) {
                    self.answer(hub, key, sdp, arrived, &handle);
                }
            }
        }
    }

    /// Without the lock: a runtime that is shutting down drops the task at once, and its attempt with it.
    fn answer(&self, hub: &HubAddress, key: Key, sdp: String, arrived: mpsc::Sender<Raw>, handle: &Handle) {
        let (heard, receiver) = mpsc::channel(MAX_SIGNALS);
        let signalling = self.shared.signalling(hub, key, receiver);
        let attempt = Attempt { shared: Arc::clone(&self.shared), key };
        let hub = hub.clone();
        let task = handle.spawn(async move {
            let settings = &attempt.shared.settings;
            match timeout(settings.open_timeout, opening::answer(settings, &sdp, signalling)).await {
                Ok(Ok(opened)) => {
                    let raw = raw(opened, &hub);
                    drop(attempt);
                    // Fails only when nobody accepts any more.
                    let _ = arrived.send(raw).await;
                }
                Ok(Err(error)) => tracing::debug!(%hub, from = %key.0, %error, "no connection comes of an offer"),
                Err(_) => tracing::debug!(%hub, from = %key.0, "who offered a connection didn't appear"),
            }
        });
        let mut inner = self.shared.inner.lock();
        if inner.table.goes_on(&key) {
            inner.attempts.insert(key, Handles { heard, task: Some(task.abort_handle()) });
        } else {
            // Over or given up meanwhile.
            task.abort();
        }
    }

    /// How many connections are being made at the moment, both ways.
    pub fn opening(&self) -> usize {
        self.shared.inner.lock().table.len()
    }

    async fn connect(&self, hub: &HubAddress, to: FeedId) -> io::Result<Raw> {
        let mut session = Session([0; 16]);
        getrandom::fill(&mut session.0).map_err(|error| io::Error::other(error.to_string()))?;
        let key = (to, session);
        let (heard, receiver) = mpsc::channel(MAX_SIGNALS);
        {
            let mut inner = self.shared.inner.lock();
            let given_up = inner.table.offer(hub, key).map_err(io::Error::other)?;
            inner.give_up(&given_up);
            inner.attempts.insert(key, Handles { heard, task: None });
        }
        // Also when the caller gives up.
        let _attempt = Attempt { shared: Arc::clone(&self.shared), key };
        let signalling = self.shared.signalling(hub, key, receiver);
        let settings = &self.shared.settings;
        let opened = timeout(settings.open_timeout, opening::offer(settings, signalling)).await;
        let opened = opened.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nobody answers by the hub"))??;
        Ok(raw(opened, hub))
    }

    fn accept(&self) -> io::Result<Box<dyn Acceptor>> {
        let (sender, arrived) = mpsc::channel(ARRIVED);
        let mut inner = self.shared.inner.lock();
        if inner.acceptor.is_some() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "offers are accepted elsewhere already"));
        }
        inner.acceptor = Some((sender, Handle::current()));
        inner.table.listen(true);
        let Bind { endpoint, .. } = Bind::rtc();
        Ok(Box::new(RtcAcceptor { shared: Arc::clone(&self.shared), arrived, endpoint }))
    }
}

impl Transport for Rtc {
    fn name(&self) -> &'static str {
        RTC
    }

    /// To a peer by a hub. Who offers too, and has the smaller key, makes a connection in place of this one, which then
    /// stays pending until its time is over.
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Raw>>> {
        let Endpoint::Rtc { hub, peer } = endpoint else { return None };
        Some(Box::pin(async move {
            let nobody = || io::Error::new(io::ErrorKind::InvalidInput, "the address doesn't say whom to ask for");
            self.connect(hub, peer.ok_or_else(nobody)?).await
        }))
    }

    /// All offers by all hubs, whichever `endpoint` names; there can be one acceptor at a time.
    fn listen<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Box<dyn Acceptor>>>> {
        match endpoint {
            Endpoint::Rtc { .. } => {}
            Endpoint::Other(protocol) if protocol.name() == RTC => {}
            _ => return None,
        }
        Some(Box::pin(async move { self.accept() }))
    }
}

impl Shared {
    fn signalling(&self, hub: &HubAddress, (to, session): Key, heard: mpsc::Receiver<Signal>) -> Signalling {
        let to = Outgoing { hub: hub.clone(), to, session, signal: Signal::Other };
        Signalling { to, out: self.outgoing.clone(), heard }
    }
}

impl Inner {
    fn give_up(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(Handles { task: Some(task), .. }) = self.attempts.remove(key) {
                task.abort();
            }
        }
    }
}

/// An attempt's place in the table, given back however it ends.
struct Attempt {
    shared: Arc<Shared>,
    key: Key,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut inner = self.shared.inner.lock();
        inner.table.ended(&self.key);
        inner.attempts.remove(&self.key);
    }
}

/// From now on the link lives by itself, until both ends are dropped or the other side closes it.
fn raw(Opened { link, reader, writer, remote }: Opened, hub: &HubAddress) -> Raw {
    tokio::spawn(link.run());
    Raw { read: Box::new(reader), write: Box::new(writer), address: hub.protocol().to_string(), origin: origin(remote) }
}

fn origin(remote: SocketAddr) -> Origin {
    Origin::Ip(limited(remote.ip().to_canonical()))
}

struct RtcAcceptor {
    shared: Arc<Shared>,
    arrived: mpsc::Receiver<Raw>,
    endpoint: Endpoint,
}

impl Acceptor for RtcAcceptor {
    fn accept(&mut self) -> Pending<'_, io::Result<Raw>> {
        Box::pin(async {
            match self.arrived.recv().await {
                Some(raw) => Ok(raw),
                // The sender lives as long as we do.
                None => std::future::pending().await,
            }
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for RtcAcceptor {
    fn drop(&mut self) {
        let mut inner = self.shared.inner.lock();
        inner.acceptor = None;
        let given_up = inner.table.listen(false);
        inner.give_up(&given_up);
    }
}
