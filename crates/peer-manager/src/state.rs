//! What the peer manager knows.

use std::collections::{BTreeMap, BTreeSet};

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};

use crate::action::Effect;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::route::Kind;
use crate::schedule::Ready;
use crate::settings::Settings;

/// Milliseconds since 1970, from a clock that never goes back while the node runs.
pub type Millis = u64;

/// Most bytes of an error that is kept.
const MAX_ERROR: usize = 300;

pub(crate) type Effects = Vec<Effect>;

/// A number for each kind of link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PerKind<T>([T; 5]);

impl<T> std::ops::Index<Kind> for PerKind<T> {
    type Output = T;

    fn index(&self, kind: Kind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> std::ops::IndexMut<Kind> for PerKind<T> {
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }
}

/// All that the peer manager knows. See the crate's first page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(crate) own: FeedId,
    pub(crate) settings: Settings,
    pub(crate) peers: BTreeMap<FeedId, Peer>,
    pub(crate) hubs: BTreeMap<String, Hub>,
    /// Peers that were given up, and until when they aren't taken up again.
    pub(crate) forgotten: BTreeMap<FeedId, Millis>,
    pub(crate) running: bool,
    /// Whether there is a network.
    pub(crate) online: bool,
    /// Whether our log is far behind.
    pub(crate) syncing: bool,
    /// State of the generator of jitter (splitmix64).
    pub(crate) random: u64,
    pub(crate) now: Millis,
    /// When we asked to be woken.
    pub(crate) wake: Option<Millis>,
    pub(crate) next_attempt: u64,
    pub(crate) next_birth: u64,

    /// Peers that wait for their time ([`Place::Due`](crate::schedule::Place)).
    pub(crate) due: BTreeSet<(Millis, FeedId)>,
    /// Peers whose time has come, in the order in which they are dialed.
    pub(crate) ready: BTreeSet<Ready>,
    /// How many of them wait for a slot of each kind.
    pub(crate) waiting: PerKind<usize>,
    /// Peers that have failed and rest as long as there is any link that we dialed.
    pub(crate) resting: BTreeSet<(Millis, FeedId)>,
    /// Peers that are being dialed, by the time at which somebody else may be tried in their slot.
    pub(crate) patience: BTreeSet<(Millis, FeedId)>,
    /// Peers of whom another route is tried soon, beside those that are being dialed.
    pub(crate) staggered: BTreeSet<(Millis, FeedId)>,
    /// Links that we dialed and that aren't being closed, by the time from which they may make room for others of their
    /// kind.
    pub(crate) aging: BTreeSet<(Kind, Millis, FeedId)>,
    /// Those who dialed us.
    pub(crate) callers: BTreeSet<FeedId>,

    /// Dials under way.
    pub(crate) dials: usize,
    /// Links that we dialed.
    pub(crate) outbound: usize,
    /// Peers that take a slot: they are being dialed, or were dialed and are connected.
    pub(crate) slots: PerKind<usize>,
    /// How many of them have not answered for so long that somebody else may be tried in their slot.
    pub(crate) silent: PerKind<usize>,
    /// From when on another one may be tried to follow a link whose time is over.
    pub(crate) probe_after: PerKind<Millis>,
    /// How many dials of candidates have failed in a row, whosever.
    pub(crate) failed_in_row: u32,
    /// No candidate is dialed before.
    pub(crate) brake_until: Millis,
}

impl State {
    /// Nobody is known, and the scheduler is stopped. `seed` is any number: it makes nodes' pauses differ.
    pub fn new(own: FeedId, settings: Settings, seed: u64) -> Self {
        State {
            own,
            settings,
            peers: BTreeMap::new(),
            hubs: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            running: false,
            online: true,
            syncing: false,
            random: seed,
            now: 0,
            wake: None,
            next_attempt: 0,
            next_birth: 0,
            due: BTreeSet::new(),
            ready: BTreeSet::new(),
            waiting: PerKind::default(),
            resting: BTreeSet::new(),
            patience: BTreeSet::new(),
            staggered: BTreeSet::new(),
            aging: BTreeSet::new(),
            callers: BTreeSet::new(),
            dials: 0,
            outbound: 0,
            slots: PerKind::default(),
            silent: PerKind::default(),
            probe_after: PerKind::default(),
            failed_in_row: 0,
            brake_until: 0,
        }
    }

    /// Whose peers these are.
    pub fn own(&self) -> FeedId {
        self.own
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time of the last action.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Whether peers are dialed without the user asking.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether there is a network, as far as was reported.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// Whether our log is far behind, as far as was reported.
    pub fn is_syncing(&self) -> bool {
        self.syncing
    }

    /// A known peer.
    pub fn peer(&self, key: &FeedId) -> Option<&Peer> {
        self.peers.get(key)
    }

    /// All known peers, by key.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = (&FeedId, &Peer)> {
        self.peers.iter()
    }

    /// All known peers, in the order in which they became known.
    pub fn peers_in_order(&self) -> Vec<(&FeedId, &Peer)> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_by_key(|(_, peer)| peer.birth);
        peers
    }

    /// Dials under way.
    pub fn dials(&self) -> usize {
        self.dials
    }

    /// Links: those that we dialed, those that others dialed.
    pub fn links(&self) -> (usize, usize) {
        (self.outbound, self.callers.len())
    }

    /// How many slots of a kind are taken: by peers that are being dialed there and aren't overdue, and by those that were
    /// dialed and are connected.
    pub fn slots_taken(&self, kind: Kind) -> usize {
        self.slots[kind] - self.silent[kind]
    }
}

/// An error as it is kept.
pub(crate) fn cut(error: &str) -> String {
    let end = (0..=error.len().min(MAX_ERROR)).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
    error[..end].to_owned()
}
