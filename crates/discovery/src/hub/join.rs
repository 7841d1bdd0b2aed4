//! Going to a hub, and speaking there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use sbot_feed::{FeedId, NetworkKey};
use sbot_multiserver::{HubAddress, Session};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::message::Said;
use super::names::HubNames;
use super::visit::Visit;

/// Events that wait to be taken. While they do, the hub isn't read.
pub const WAITING_EVENTS: usize = 64;
/// Messages that wait to be sent: a few dials at once, each some ten signals. More are dropped.
pub const WAITING_POSTS: usize = 256;
/// Time for the goodbye.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// How far a peer is from us in the social graph; `None` for strangers.
pub type Hops = Arc<dyn Fn(&FeedId) -> Option<u32> + Send + Sync>;

/// How to be at a hub.
#[derive(Clone)]
pub struct HubSettings {
    /// Time for a connection and an answer.
    pub patience: Duration,
    /// A hub that says nothing for so long is lost. It says something every 30 s.
    pub silence: Duration,
    /// Time between two announcements, give or take a quarter.
    pub announce: Duration,
    /// Who doesn't announce itself for so long is forgotten.
    pub forget: Duration,
    /// Who keeps announcing itself is told of again after so long.
    pub repeat: Duration,
    /// Certificate authorities beside those of the system.
    pub roots: Vec<CertificateDer<'static>>,
    /// Who is how near.
    pub hops: Hops,
}

impl Default for HubSettings {
    fn default() -> Self {
        HubSettings {
            patience: Duration::from_secs(15),
            silence: Duration::from_secs(75),
            announce: Duration::from_secs(60),
            forget: Duration::from_secs(200),
            repeat: Duration::from_secs(600),
            roots: Vec::new(),
            hops: Arc::new(|_| None),
        }
    }
}

/// What happens at a hub.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEvent {
    /// We hear what is said there from now on.
    Joined,
    /// Somebody says that it is this peer and that it is there. Told again now and then while it says so.
    Announced(FeedId),
    /// It says so no longer, or says that it leaves.
    Gone(FeedId),
    /// Somebody who says that it is this peer has posted a signal for us.
    Signal {
        /// From whom.
        from: FeedId,
        /// Which attempt at a connection it belongs to.
        session: Session,
        /// An offer, an answer or a candidate, or anything else: an object.
        signal: Value,
    },
    /// The hub can't be used, or no longer: the reason, for people. The last event.
    Lost(String),
}

/// What has been heard and said at a hub so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Announcements, goodbyes and signals that were listened to.
    pub heard: u64,
    /// Passed over because too much was said.
    pub too_many: u64,
    /// Passed over because they were too long or malformed.
    pub unreadable: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages not sent: too many waited, the hub refused them, or they were too long.
    pub unsent: u64,
    /// Peers that are remembered to be there.
    pub there: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) heard: AtomicU64,
    pub(super) too_many: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) unsent: AtomicU64,
    pub(super) there: AtomicU64,
    /// That something was passed over has been told.
    pub(super) told: AtomicBool,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What is to be said.
pub(super) struct Post {
    pub(super) channel: String,
    pub(super) said: Said,
}

/// Speaks at a hub. Dropped without [`Hub::leave`] it goes without a goodbye.
pub struct Hub {
    own: FeedId,
    names: HubNames,
    posts: mpsc::Sender<Post>,
    announcing: Arc<Notify>,
    leaving: oneshot::Sender<oneshot::Sender<()>>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("own", &self.own).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// Goes to a hub and stays until it is lost or left, or nobody takes events any more. Must be called within a tokio
/// runtime.
pub fn join(
    hub: HubAddress,
    network: &NetworkKey,
    own: FeedId,
    settings: HubSettings,
) -> (Hub, mpsc::Receiver<HubEvent>) {
    let names = HubNames::new(network);
    let (posts, waiting) = mpsc::channel(WAITING_POSTS);
    let (events, heard) = mpsc::channel(WAITING_EVENTS);
    let (leaving, left) = oneshot::channel();
    let (announcing, counters) = (Arc::new(Notify::new()), Arc::new(Counters::default()));
    let visit = Visit::new(hub.to_string(), own, names.clone(), settings, events, Arc::clone(&counters));
    tokio::spawn(visit.run(hub, waiting, Arc::clone(&announcing), left));
    (Hub { own, names, posts, announcing, leaving, counters }, heard)
}

impl Hub {
    /// Says that we are there, now and then again every minute.
    pub fn announce(&self) {
        self.announcing.notify_one();
    }

    /// Says to one peer that we are there.
    pub fn answer(&self, to: FeedId) {
        self.post(to, Said::Here(self.own));
    }

    /// Posts a signal into a peer's letter box. They are sent one after the other; if too many wait it is dropped.
    pub fn signal(&self, to: FeedId, session: Session, signal: Value) {
        self.post(to, Said::Signal { from: self.own, session, signal });
    }

    fn post(&self, to: FeedId, said: Said) {
        if self.posts.try_send(Post { channel: self.names.letter_box(&to), said }).is_err() {
            count(&self.counters.unsent);
        }
    }

    /// What has been heard and said so far.
    pub fn counts(&self) -> HubCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &*self.counters;
        HubCounts {
            heard: get(&counters.heard),
            too_many: get(&counters.too_many),
            unreadable: get(&counters.unreadable),
            sent: get(&counters.sent),
            unsent: get(&counters.unsent),
            there: get(&counters.there),
        }
    }

    /// Says goodbye, if we were announced, and goes. No event follows.
    pub async fn leave(self) {
        let (done, gone) = oneshot::channel();
        if self.leaving.send(done).is_ok() {
            // It ends in any case.
            let _ = timeout(FAREWELL, gone).await;
        }
    }
}
