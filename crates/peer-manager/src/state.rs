//! What the peer manager knows.

use std::collections::{BTreeMap, BTreeSet};

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, from a clock that never goes back while the node runs.
pub type Millis = u64;

/// Most bytes of a route.
pub const MAX_ROUTE: usize = 1024;
/// Most bytes of an error that is kept.
pub(crate) const MAX_ERROR: usize = 300;

/// Names a dial; given by the reducer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId(pub u64);

/// Names a link; given by the runtime, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// Limits and times. All times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Peers that are known at once.
    pub most_peers: usize,
    /// Routes of one peer.
    pub most_routes: usize,
    /// Dials under way.
    pub most_dials: usize,
    /// Links that we dialed without the user asking for each.
    pub most_outbound: usize,
    /// Links of those who dialed us.
    pub most_inbound: usize,
    /// Time for a dial with its handshake.
    pub dial_timeout: Millis,
    /// Pause after the first failure, and after a good link has ended. Each further failure doubles it.
    pub first_pause: Millis,
    /// No pause is longer.
    pub longest_pause: Millis,
    /// A link that ends sooner counts as a failure.
    pub stable_after: Millis,
    /// Two links with one peer, dialed from either end, began at once if the first is not older than this. It must be
    /// longer than `dial_timeout`, so that a dial can't succeed after it.
    pub race_window: Millis,
    /// After a change of the network, dials are spread over this time.
    pub spread: Millis,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            most_peers: 10_000,
            most_routes: 8,
            most_dials: 8,
            most_outbound: 32,
            most_inbound: 64,
            // 10 s for the connection (ssb-conn `conn-hub.js`) and 5 s for the handshake (ssb-config).
            dial_timeout: 15_000,
            first_pause: 4_000,
            longest_pause: 3_600_000,
            stable_after: 10_000,
            race_window: 30_000,
            spread: 5_000,
        }
    }
}

/// Who says that a peer is at a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The user.
    Manual,
    /// The settings.
    Seed,
    /// An earlier run.
    Stored,
    /// The peer itself, on the local network. Not saved.
    Local,
    /// A `pub` message.
    Pub,
    /// An invite.
    Invite,
    /// The distributed hash table. Not saved.
    Dht,
    /// A signalling hub or room. Not saved.
    Hub,
}

impl Source {
    const ALL: [(Source, &'static str); 8] = [
        (Source::Manual, "manual"),
        (Source::Seed, "seed"),
        (Source::Stored, "stored"),
        (Source::Local, "local"),
        (Source::Pub, "pub"),
        (Source::Invite, "invite"),
        (Source::Dht, "dht"),
        (Source::Hub, "hub"),
    ];

    /// The name, as ssb-gossip shows it where it knows the source.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(source, _)| *source == self).map_or("", |(_, name)| name)
    }

    /// The source with this name.
    pub fn from_name(name: &str) -> Option<Source> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(source, _)| *source)
    }

    /// Whether a route of this source is worth keeping over a restart.
    fn is_saved(self) -> bool {
        !matches!(self, Source::Local | Source::Dht | Source::Hub)
    }
}

/// Who dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}

/// A place where a peer might be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRoute {
    /// A multiserver address.
    pub address: String,
    /// Who said so first; a better source replaces it.
    pub source: Source,
    /// How often it was said.
    pub announced: u32,
    /// When it worked last.
    pub last_success: Option<Millis>,
    /// How often it has failed since.
    pub failures: u32,
    /// Whether it has been tried since the last pause.
    #[serde(default)]
    pub tried: bool,
}

/// A link with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// How the runtime calls it.
    pub id: LinkId,
    /// Who dialed.
    pub direction: Direction,
    /// The route that was dialed, or where the peer dialed from.
    pub address: String,
    /// Since when.
    pub since: Millis,
    /// Whether we asked for its end.
    pub leaving: bool,
}

/// A dial under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name.
    pub id: AttemptId,
    /// Where to.
    pub route: String,
    /// Since when.
    pub since: Millis,
}

/// How long links with a peer lasted, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// How many there were.
    pub count: u32,
    /// The sum.
    pub sum: f64,
    /// The sum of squares.
    pub sum_of_squares: f64,
}

impl Durations {
    pub(crate) fn add(&mut self, lasted: Millis) {
        let lasted = lasted as f64;
        self.count = self.count.saturating_add(1);
        self.sum += lasted;
        self.sum_of_squares += lasted * lasted;
    }
}

/// What is going on with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing.
    Disconnected,
    /// It is being dialed.
    Connecting,
    /// It is connected.
    Connected,
    /// Its link is being closed.
    Disconnecting,
}

/// A known peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Where it might be; at most [`Settings::most_routes`].
    pub routes: Vec<KnownRoute>,
    /// Whether the user wants it remembered and always connected.
    pub long_term: bool,
    /// What the user asked for last: to be connected, or not to be.
    pub wanted: Option<bool>,
    /// How far it is from us in the social graph: 1 for whom we follow; `None` for strangers. Not saved.
    #[serde(default)]
    pub hops: Option<u32>,
    /// Whether it is not to be talked with.
    pub banned: bool,
    /// The one live link.
    pub link: Option<Link>,
    /// The dial under way.
    pub dialing: Option<Attempt>,
    /// When its status changed last.
    pub since: Millis,
    /// How often in a row all routes have failed, or the link was lost at once.
    pub failures: u32,
    /// When a link with it was up last.
    pub last_success: Option<Millis>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it is dialed next.
    pub next_try: Option<Millis>,
    /// How long links lasted.
    pub durations: Durations,
    /// Its place in the order in which peers became known.
    pub birth: u64,
    /// Whether the user waits for the dial: it goes before others, and beyond the limit of links.
    pub(crate) asked: bool,
}

impl Peer {
    pub(crate) fn new(birth: u64, now: Millis) -> Self {
        Peer {
            routes: Vec::new(),
            long_term: false,
            wanted: None,
            hops: None,
            banned: false,
            link: None,
            dialing: None,
            since: now,
            failures: 0,
            last_success: None,
            last_error: None,
            next_try: None,
            durations: Durations::default(),
            birth,
            asked: false,
        }
    }

    /// What is going on with it.
    pub fn status(&self) -> Status {
        match (&self.link, &self.dialing) {
            (Some(link), _) if link.leaving => Status::Disconnecting,
            (Some(_), _) => Status::Connected,
            (None, Some(_)) => Status::Connecting,
            (None, None) => Status::Disconnected,
        }
    }

    /// Whether it is dialed without the user asking each time: one to be remembered, one of the settings, and one that we
    /// follow and that is on the local network. What the user said last goes before.
    pub fn is_kept_connected(&self) -> bool {
        let at = |source| self.routes.iter().any(|route| route.source == source);
        let followed = self.hops == Some(1);
        self.wanted.unwrap_or(self.long_term || at(Source::Seed) || followed && at(Source::Local))
    }

    /// Whether it would be missed.
    pub(crate) fn is_valued(&self) -> bool {
        self.is_kept_connected() || self.long_term || self.banned || self.link.is_some() || self.dialing.is_some()
    }
}

/// All that the peer manager knows. See the crate's first page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(crate) own: FeedId,
    pub(crate) settings: Settings,
    pub(crate) peers: BTreeMap<FeedId, Peer>,
    pub(crate) running: bool,
    /// State of the generator of jitter (splitmix64).
    pub(crate) random: u64,
    pub(crate) now: Millis,
    /// When we asked to be woken.
    pub(crate) wake: Option<Millis>,
    pub(crate) next_attempt: u64,
    pub(crate) next_birth: u64,
    /// Peers by [`Peer::next_try`].
    pub(crate) due: BTreeSet<(Millis, FeedId)>,
    /// Dials under way.
    pub(crate) dials: usize,
    /// Links that we dialed.
    pub(crate) outbound: usize,
    /// Links that others dialed.
    pub(crate) inbound: usize,
}

/// What is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The peers worth it.
    pub peers: Vec<SavedPeer>,
}

/// A peer as it is kept over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPeer {
    /// Its key.
    pub key: FeedId,
    /// Its routes, but those that are only good for the moment.
    pub routes: Vec<KnownRoute>,
    /// [`Peer::long_term`].
    #[serde(default)]
    pub long_term: bool,
    /// [`Peer::wanted`].
    #[serde(default)]
    pub wanted: Option<bool>,
    /// [`Peer::banned`].
    #[serde(default)]
    pub banned: bool,
    /// [`Peer::failures`].
    #[serde(default)]
    pub failures: u32,
    /// [`Peer::last_success`].
    #[serde(default)]
    pub last_success: Option<Millis>,
    /// [`Peer::durations`].
    #[serde(default)]
    pub durations: Durations,
}

impl State {
    /// Nobody is known, and the scheduler is stopped. `seed` is any number: it makes nodes' pauses differ.
    pub fn new(own: FeedId, settings: Settings, seed: u64) -> Self {
        State {
            own,
            settings,
            peers: BTreeMap::new(),
            running: false,
            random: seed,
            now: 0,
            wake: None,
            next_attempt: 0,
            next_birth: 0,
            due: BTreeSet::new(),
            dials: 0,
            outbound: 0,
            inbound: 0,
        }
    }

    /// The peers of an earlier run, as far as there is room. Whoever is to be connected is due at once.
    pub fn restore(own: FeedId, settings: Settings, seed: u64, now: Millis, saved: Saved) -> Self {
        let mut state = State::new(own, settings, seed);
        state.now = now;
        for saved in saved.peers {
            if saved.key == own || state.peers.len() >= state.settings.most_peers {
                continue;
            }
            let mut peer = Peer::new(state.next_birth, now);
            state.next_birth += 1;
            peer.routes = saved.routes;
            peer.routes.retain(|route| route.address.len() <= MAX_ROUTE);
            peer.routes.truncate(state.settings.most_routes);
            for route in &mut peer.routes {
                route.tried = false;
            }
            peer.long_term = saved.long_term;
            peer.wanted = saved.wanted;
            peer.banned = saved.banned;
            peer.failures = saved.failures;
            peer.last_success = saved.last_success;
            peer.durations = saved.durations;
            state.peers.insert(saved.key, peer);
            state.plan(saved.key, now);
        }
        state
    }

    /// What is to be kept over a restart.
    pub fn saved(&self) -> Saved {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_by_key(|(_, peer)| peer.birth);
        let saved = |(key, peer): (&FeedId, &Peer)| {
            let routes: Vec<_> = peer.routes.iter().filter(|route| route.source.is_saved()).cloned().collect();
            let worth = !routes.is_empty() || peer.long_term || peer.banned;
            worth.then_some(SavedPeer {
                key: *key,
                routes,
                long_term: peer.long_term,
                wanted: peer.wanted,
                banned: peer.banned,
                failures: peer.failures,
                last_success: peer.last_success,
                durations: peer.durations,
            })
        };
        Saved { peers: peers.into_iter().filter_map(saved).collect() }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether peers are dialed without the user asking.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// A known peer.
    pub fn peer(&self, key: &FeedId) -> Option<&Peer> {
        self.peers.get(key)
    }

    /// All known peers, by key.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = (&FeedId, &Peer)> {
        self.peers.iter()
    }

    /// Dials under way.
    pub fn dials(&self) -> usize {
        self.dials
    }

    /// Links: those that we dialed, those that others dialed.
    pub fn links(&self) -> (usize, usize) {
        (self.outbound, self.inbound)
    }
}
