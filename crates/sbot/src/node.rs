//! The node: everything put together.
//!
//! [`Node::start`] opens the data directory, listens, and replicates until [`Node::stop`]. The way of each connection is
//! the same whoever dialed: secret handshake (or the unix socket's file mode), a role from `sbot-authorisation`, a mux-rpc
//! session over the methods of [`crate::api`], and for peers, replication.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sbot_authorisation::{Came, Door};
use sbot_discovery::hub;
use sbot_feed::{FeedId, Keypair};
use sbot_multiserver::{Address, Connection, DialSettings, Endpoint, ListenError, ListenSettings, Listener, Route};
use sbot_peer_manager::{Action, Settings as PeerSettings};
use sbot_rpc::{Limits, Registry, Session};
use sbot_store::{Store, StoreError};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::api::{self, Caller, Context};
use crate::blobbing::Wishing;
use crate::config::secret::SecretFileError;
use crate::config::{Config, manifest};
use crate::discovering::{self, Discovering};
use crate::gate::{self, Gate};
use crate::heartbeat;
use crate::hubs::Hubs;
use crate::inviting::{Guests, Inviting};
use crate::listening::{Listening, binds, bound};
use crate::opening::Opened;
use crate::peers::{self, PeerRuntime, Serve};
use crate::publish::{Clock, Publisher, system_clock};
use crate::replicating::Replicating;
use crate::state::State as Saves;
use crate::time::{Steady, Uptime, millis, system_uptime};

/// Time for peers to take our goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// Time for a connection before its handshake begins, in ms (ssb-conn `conn-hub.js`).
const CONNECT_TIME: u64 = 10_000;

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity can't be read or made.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// The log or the blobs can't be opened.
    #[error("can't open the data directory")]
    Store(#[from] StoreError),
    /// The data directory can't be made.
    #[error("can't make {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Small state can't be opened.
    #[error("can't open {}: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The manifest can't be written.
    #[error("can't write {}: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Actions can't be recorded.
    #[error("can't record actions in {}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The settings make no policy.
    #[error(transparent)]
    Policy(#[from] sbot_authorisation::PolicyError),
    /// A task of the start itself failed.
    #[error("the start was broken off: {0}")]
    Broken(String),
}

/// What a node gets from outside: time and chance. Tests replace them.
#[derive(Clone)]
pub struct Environment {
    /// What time it is, in ms since 1970.
    pub clock: Clock,
    /// How much time passes, whatever the clock shows.
    pub uptime: Uptime,
    /// Makes the pauses of nodes differ.
    pub seed: u64,
}

impl Default for Environment {
    /// The system's clock and randomness.
    fn default() -> Self {
        let mut seed = [0; 8];
        // Without randomness pauses are merely the same everywhere; keys would fail loudly.
        let _ = getrandom::fill(&mut seed);
        Self { clock: system_clock(), uptime: system_uptime(), seed: u64::from_le_bytes(seed) }
    }
}

/// A running node. Dropped without [`Node::stop`] it goes on until its runtime ends.
pub struct Node {
    shared: Arc<Shared>,
    peers: Arc<PeerRuntime>,
    replicating: Arc<Replicating>,
    discovering: Discovering,
    saves: Arc<Saves>,
    tasks: JoinSet<()>,
    accepting: JoinHandle<()>,
    stop_accepting: oneshot::Sender<()>,
    sockets: Vec<PathBuf>,
    port: Option<u16>,
}

/// What every connection needs.
struct Shared {
    keys: Keypair,
    store: Store,
    context: Arc<Context>,
    registry: Arc<Registry<Caller>>,
    replicating: Arc<Replicating>,
    guests: Guests,
    /// Sessions that are none with peers: clients and guests.
    clients: Mutex<Vec<sbot_rpc::Peer>>,
    ping: Duration,
    /// For peers.
    limits: Limits,
}

impl Shared {
    /// Who calls on a connection.
    fn caller(&self, connection: &Connection) -> Caller {
        self.context.gate.caller(connection.remote, came(connection))
    }

    /// A session with a client of ours: no replication.
    fn serve_client(self: &Arc<Self>, connection: Connection) -> sbot_rpc::Peer {
        let caller = self.caller(&connection);
        let registry = Arc::clone(&self.registry);
        let client = Session::spawn(connection.read, connection.write, registry, caller, Limits::LOCAL);
        self.remember(client.clone());
        client
    }

    /// A session with somebody who has the key of an invite: no peer, and no replication.
    fn serve_guest(&self, connection: Connection) {
        let caller = self.caller(&connection);
        if let Some(guest) = self.guests.serve(connection, Arc::clone(&self.registry), caller) {
            self.remember(guest);
        }
    }

    /// Keeps a session to be closed when the node stops.
    fn remember(&self, client: sbot_rpc::Peer) {
        let mut clients = self.clients.lock();
        clients.retain(|client| !client.is_closed());
        clients.push(client);
    }
}

/// Sessions with peers.
struct PeerServer(Arc<Shared>);

impl Serve for PeerServer {
    fn serve(&self, connection: Connection, opened: oneshot::Sender<sbot_rpc::Peer>) -> api::Pending<'static, String> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let dialed = connection.direction == sbot_multiserver::Direction::Dialed;
            let caller = shared.caller(&connection);
            let registry = Arc::clone(&shared.registry);
            let visit = shared.context.blobs.arrived(caller.id);
            let meter = shared.context.gate.meter(&caller);
            let limits = if meter.is_some() { shared.limits } else { Limits::REMOTE };
            let (read, write) = (connection.read, connection.write);
            let peer = Session::spawn_metered(read, write, registry, caller, limits, meter);
            let blobs = tokio::spawn(visit.listen(peer.clone()));
            // The peer manager may have given the connection up meanwhile; then it closes it.
            let _ = opened.send(peer.clone());
            let pings = dialed.then(|| {
                let clock = Arc::clone(&shared.context.clock);
                tokio::spawn(heartbeat::ping(peer.clone(), clock, shared.ping))
            });
            let mut serving = pin!(shared.replicating.serve(caller, peer.clone(), dialed));
            let why = tokio::select! {
                why = &mut serving => why,
                why = shared.context.gate.until_refused(|gate| gate.may_stay(&caller.id, caller.came, dialed)) => {
                    peer.dismiss(&why);
                    serving.await
                }
            };
            blobs.abort();
            if let Some(pings) = pings {
                pings.abort();
            }
            Ok(why)
        })
    }
}

impl Node {
    /// Starts a node with the system's clock.
    ///
    /// # Errors
    /// [`StartError`]: nothing is left running.
    pub async fn start(config: Config) -> Result<Node, StartError> {
        Self::start_in(config, Environment::default()).await
    }

    /// Starts a node in an environment of the caller's.
    ///
    /// # Errors
    /// [`StartError`]: nothing is left running.
    pub async fn start_in(config: Config, environment: Environment) -> Result<Node, StartError> {
        let opening = config.clone();
        let clock = Arc::clone(&environment.clock);
        let opened = tokio::task::spawn_blocking(move || Opened::open(&opening, clock)).await;
        let opened = opened.map_err(|error| StartError::Broken(error.to_string()))??;
        let Opened { keys, store, saves, boxes, social, blobs, given } = opened;
        let id = keys.id();
        let gate = {
            let given = Arc::clone(&given);
            let gate = Gate::new(id, config.policy()?, Arc::clone(&social));
            let gate = gate.with_masters(config.masters.iter().copied()).with_rooms(rooms(&config));
            let gate = gate.with_budgets(config.auth.budgets);
            Arc::new(gate.with_guests(move |key| given.knows(key)))
        };

        let replicating =
            Replicating::new(&config, &store, id, Arc::clone(&saves), Arc::clone(&social), Arc::clone(&gate));
        let dial = DialSettings { handshake_timeout: config.timers.handshake, ..DialSettings::default() };
        let hops: hub::Hops = {
            let social = Arc::clone(&social);
            Arc::new(move |peer| discovering::hops_of(&social.hops(), peer))
        };
        let hubs = Hubs::new(id, config.caps.shs, &config.rtc, Arc::clone(&hops));
        let dialer = hubs.dialer(config.caps.shs, keys.clone(), dial);
        let clock = Arc::clone(&environment.clock);
        let peers = PeerRuntime::new(peers::Options {
            own: id,
            dialer: dialer.clone(),
            hubs: Arc::clone(&hubs),
            hub_addresses: config.rtc.hubs.clone(),
            saves: Arc::clone(&saves),
            time: Steady::new(&clock, Arc::clone(&environment.uptime)),
            seed: environment.seed,
            settings: peer_settings(&config, &gate),
            distance: Box::new(move |peer| hops(peer)),
            may_dial: {
                let gate = Arc::clone(&gate);
                Box::new(move |peer| gate.may_dial(peer))
            },
            record: config.peers.record.clone(),
        })
        .map_err(|source| StartError::Record { path: config.peers.record.clone().unwrap_or_default(), source })?;

        let guard = {
            let replicating = Arc::clone(&replicating);
            Arc::new(move || replicating.may_publish())
        };
        let publisher = Publisher::new(store.clone(), keys.clone(), config.caps.sign, Arc::clone(&clock), guard);
        let publisher = Arc::new(publisher);

        let authorise = {
            let gate = Arc::clone(&gate);
            Arc::new(move |peer: &FeedId| gate.may_connect(peer, Came::Unknown))
        };
        let places = binds(&config);
        let settings = ListenSettings { handshake_timeout: config.timers.handshake, ..ListenSettings::default() };
        let listener = hubs.listener(places, config.caps.shs, keys.clone(), authorise, settings).await?;
        let port = listener.port();
        let sockets: Vec<PathBuf> = config.connections.unix.iter().map(|unix| unix.path.clone()).collect();
        let listening = Listening { id, net: bound(&config, listener.endpoints()), unix: sockets.clone() };
        let addresses: Arc<dyn api::Addresses> = Arc::new(listening);
        let inviting = Arc::new(Inviting {
            own: id,
            store: store.clone(),
            publisher: Arc::clone(&publisher),
            social: Arc::clone(&social),
            addresses: Arc::clone(&addresses),
            peers: Arc::clone(&peers) as Arc<dyn api::Peers>,
            dialer,
            clock: Arc::clone(&clock),
            allow_private: config.allow_private_invites,
            given,
        });

        let context = Arc::new(Context {
            id,
            gate: Arc::clone(&gate),
            store: store.clone(),
            boxes,
            publisher,
            social: Arc::clone(&social),
            blobs,
            replication: Arc::clone(&replicating) as Arc<dyn api::Replication>,
            peers: Arc::clone(&peers) as Arc<dyn api::Peers>,
            hubs: Arc::clone(&peers) as Arc<dyn api::Hubs>,
            invites: inviting,
            addresses,
            clock,
        });
        let registry = Arc::new(api::registry(&context, |registry| replicating.register(registry)));
        write_manifest(&config, &registry)?;

        let shared = Arc::new(Shared {
            keys,
            store,
            context,
            registry,
            replicating: Arc::clone(&replicating),
            guests: Guests::default(),
            clients: Mutex::default(),
            ping: config.timers.ping,
            limits: Limits { max_requests: config.auth.streams, ..Limits::REMOTE },
        });
        peers.serve_with(Arc::new(PeerServer(Arc::clone(&shared))));
        for endpoint in listener.endpoints() {
            match endpoint {
                Endpoint::Net { host, port } => tracing::info!(host, port, "listening"),
                Endpoint::Unix { path } => tracing::info!(path = %path.display(), "listening for clients"),
                Endpoint::Rtc { .. } | Endpoint::Other(_) => {}
            }
        }

        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&social).follow());
        shared.context.blobs.obey(&shared.context.gate);
        tasks.spawn(Arc::clone(&shared.context.blobs).run());
        let wishing = Wishing {
            blobs: Arc::clone(&shared.context.blobs),
            store: shared.store.clone(),
            boxes: Arc::clone(&shared.context.boxes),
            social: Arc::clone(&social),
            settings: config.blobs.mentions.clone(),
        };
        tasks.spawn(wishing.follow());
        tasks.spawn(Arc::clone(&peers).run());
        tasks.spawn(Arc::clone(&peers).keep_saved());
        tasks.spawn(Arc::clone(&peers).watch(
            environment.uptime,
            shared.store.clone(),
            Arc::clone(&replicating),
            config.timers.inactivity,
        ));
        tasks.spawn(discovering::ban_the_blocked(social, Arc::clone(&peers), gate, id));
        Arc::clone(&replicating).run(&mut tasks);
        let (stop_accepting, stopped) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), Arc::clone(&peers), stopped));
        let discovering = discovering::start(&config, &shared.keys, &shared.context, &peers, &mut tasks).await;
        peers.use_hubs();
        if config.peers.autostart {
            peers.apply(Action::SchedulerStarted);
        }
        tracing::info!(%id, messages = shared.store.len(), "started");
        Ok(Node { shared, peers, replicating, discovering, saves, tasks, accepting, stop_accepting, sockets, port })
    }

    /// Who this node is.
    pub fn id(&self) -> FeedId {
        self.shared.keys.id()
    }

    /// The TCP port that it listens on, if it does.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Its address on this machine, if it listens on TCP.
    pub fn address(&self) -> Option<String> {
        self.port.map(|port| Route::net("127.0.0.1", port, &self.id()).to_string())
    }

    /// Its log, to read.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// What its methods work with.
    pub fn context(&self) -> &Arc<Context> {
        &self.shared.context
    }

    /// A connection within this process, with the owner's rights: any method can be called over it.
    pub fn client(&self) -> sbot_rpc::Peer {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(there);
        let connection = Connection {
            remote: self.id(),
            local_client: true,
            address: "in-process".into(),
            direction: sbot_multiserver::Direction::Accepted,
            read: Box::new(read),
            write: Box::new(write),
        };
        self.shared.serve_client(connection);
        let (read, write) = tokio::io::split(here);
        Session::spawn(read, write, Arc::new(Registry::<()>::new()), (), Limits::LOCAL)
    }

    /// Takes a connection that was made elsewhere, as if it had been accepted: for networks in memory.
    pub fn accept(&self, connection: Connection) {
        if connection.local_client {
            self.shared.serve_client(connection);
        } else {
            self.peers.accepted(connection);
        }
    }

    /// Says goodbye to everyone, finishes what is under way, and closes the data directory.
    pub async fn stop(mut self) {
        // The task may have ended already.
        let _ = self.stop_accepting.send(());
        let _ = self.accepting.await;
        tokio::join!(self.discovering.stop(), self.peers.hubs().leave_all());
        let mut open = self.peers.shut_down();
        open.extend(self.shared.clients.lock().drain(..));
        for client in &open {
            client.close("the server is stopping");
        }
        let farewell = async {
            for client in &open {
                client.gone().await;
            }
        };
        // Who doesn't take it in time is left.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        self.replicating.save().await;
        self.peers.save().await;
        self.shared.context.blobs.save().await;
        self.tasks.shutdown().await;
        Arc::clone(&self.peers).finish_recording().await;
        let saves = self.saves;
        if let Err(error) = tokio::task::spawn_blocking(move || saves.close()).await {
            tracing::error!(%error, "the small state was not closed well");
        }
        if let Err(error) = self.shared.store.close().await {
            tracing::error!(%error, "the log was not closed well");
        }
        for socket in &self.sockets {
            // The listener may have removed it.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// The limits of the peer manager that the settings change.
fn peer_settings(config: &Config, gate: &Gate) -> PeerSettings {
    let mut settings = PeerSettings { furthest: gate.policy().dials_within(), ..PeerSettings::default() };
    settings.internet.most = usize::from(config.peers.connections);
    settings.dial_timeout = settings.dial_timeout.max(millis(config.timers.handshake) + CONNECT_TIME);
    settings.race_window = 2 * settings.dial_timeout;
    settings
}

/// How a connection came.
fn came(connection: &Connection) -> Came {
    if connection.local_client { Came::Socket } else { gate::came(&connection.address) }
}

/// Servers that the settings name, to keep a connection with whatever the policy says of strangers.
fn rooms(config: &Config) -> Vec<FeedId> {
    let seeds = config.peers.seeds.iter().filter_map(|seed| seed.parse::<Address>().ok()?.key());
    config.auth.rooms.iter().copied().chain(seeds).collect()
}

fn write_manifest(config: &Config, registry: &Registry<Caller>) -> Result<(), StartError> {
    let path = config.manifest_path();
    let written = serde_json::from_str(&registry.manifest())
        .map_err(std::io::Error::from)
        .and_then(|value| manifest::write(&path, &value));
    written.map_err(|source| StartError::Manifest { path, source })
}

async fn accept(
    mut listener: Listener,
    shared: Arc<Shared>,
    peers: Arc<PeerRuntime>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            _ = &mut stopped => break,
        };
        let (remote, came) = (connection.remote, came(&connection));
        let gate = &shared.context.gate;
        // The handshake asked already, but for the way.
        if let Err(why) = gate.may_connect(&remote, came) {
            tracing::debug!(peer = %remote, address = connection.address, why, "not let in");
            continue;
        }
        match gate.door(&remote, came) {
            Door::Client => {
                shared.serve_client(connection);
            }
            Door::Guest => shared.serve_guest(connection),
            Door::Peer => peers.accepted(connection),
        }
    }
    listener.close().await;
}
