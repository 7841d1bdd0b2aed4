//! Signalling hubs at work: where peers are met that can't be dialed, and connections with them arranged.
//!
//! The peer manager decides which hubs to be at ([`Effect::ConnectToHub`] and so on); a [`Stay`] is at one. What is heard
//! there goes two ways: who is there to the peer manager, as a route `rtc:HUB~shs:KEY`, and what it takes to make a
//! connection to the transport `rtc`. What the transport has to say goes back by the hub that it names.
//!
//! Without the cargo feature `rtc` there is no such transport, and hubs are of no use: connecting to one fails with a clear
//! word.
//!
//! [`Effect::ConnectToHub`]: sbot_peer_manager::Effect::ConnectToHub

mod transports;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use sbot_discovery::hub::{Hops, Hub, HubCounts, HubEvent, HubSettings, join};
use sbot_feed::{FeedId, NetworkKey};
use sbot_multiserver::HubAddress;
use sbot_peer_manager::{Action, HubChange};
use tokio::sync::mpsc;

use crate::config::Rtc as Settings;
use crate::peers::PeerRuntime;

use transports::Transport;

/// The hubs that we are at.
pub(crate) struct Hubs {
    own: FeedId,
    network: NetworkKey,
    settings: HubSettings,
    transport: Transport,
    stays: Mutex<HashMap<HubAddress, Stay>>,
    /// No hub is gone to any more. Set while `stays` is locked.
    ended: AtomicBool,
    next: AtomicU64,
}

/// Being at a hub, or on the way to it.
struct Stay {
    number: u64,
    hub: Hub,
    joined: bool,
}

impl Hubs {
    /// At no hub yet. `hops` says who is how near. What the transport has to say is passed on by a task of its own; must
    /// be called within a tokio runtime.
    pub(crate) fn new(own: FeedId, network: NetworkKey, settings: &Settings, hops: Hops) -> Arc<Hubs> {
        let (transport, outgoing) = Transport::new(own, settings);
        let settings = HubSettings { hops, ..HubSettings::default() };
        let hubs = Hubs {
            own,
            network,
            settings,
            transport,
            stays: Mutex::default(),
            ended: AtomicBool::new(false),
            next: AtomicU64::new(0),
        };
        let hubs = Arc::new(hubs);
        transports::pass_on(outgoing, Arc::downgrade(&hubs));
        hubs
    }

    /// Goes to a hub. What becomes of it is told to `peers`.
    pub(crate) fn connect(self: &Arc<Self>, name: String, peers: Arc<PeerRuntime>) {
        let failed = |error: String| {
            let (hub, peers) = (name.clone(), Arc::clone(&peers));
            // Not from within the action that wanted it.
            tokio::spawn(async move { peers.apply(Action::HubConnectionFailed { hub, error }) });
        };
        if let Some(why) = transports::UNUSABLE {
            return failed(why.into());
        }
        match HubAddress::parse(&name) {
            Err(error) => failed(error.to_string()),
            Ok(address) => {
                let mut stays = self.stays.lock();
                if self.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (hub, events) = join(address.clone(), &self.network, self.own, self.settings.clone());
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                stays.insert(address.clone(), Stay { number, hub, joined: false });
                tokio::spawn(Arc::clone(self).follow(name, address, number, events, peers));
            }
        }
    }

    /// Says at a hub that we are there.
    pub(crate) fn announce(&self, name: &str) {
        self.at(name, |stay| stay.hub.announce());
    }

    /// Says goodbye to a hub.
    pub(crate) fn leave(&self, name: &str) {
        let stay = HubAddress::parse(name).ok().and_then(|address| self.stays.lock().remove(&address));
        if let Some(stay) = stay {
            tokio::spawn(stay.hub.leave());
        }
    }

    /// Says goodbye to all hubs and goes to none any more. Waits until that is done, some seconds at most.
    pub(crate) async fn leave_all(&self) {
        let stays = {
            let mut stays = self.stays.lock();
            self.ended.store(true, Ordering::Relaxed);
            std::mem::take(&mut *stays)
        };
        futures_util::future::join_all(stays.into_values().map(|stay| stay.hub.leave())).await;
    }

    /// What has been heard and said at a hub since we came there.
    pub(crate) fn counts(&self, name: &str) -> Option<HubCounts> {
        self.at(name, |stay| stay.hub.counts())
    }

    fn at<T>(&self, name: &str, look: impl FnOnce(&mut Stay) -> T) -> Option<T> {
        let address = HubAddress::parse(name).ok()?;
        self.stays.lock().get_mut(&address).map(look)
    }

    /// Looks at a stay, if it is still this one.
    fn still<T>(&self, address: &HubAddress, number: u64, look: impl FnOnce(&mut Stay) -> T) -> Option<T> {
        self.stays.lock().get_mut(address).filter(|stay| stay.number == number).map(look)
    }

    /// Passes on what happens at a hub, until we are there no longer.
    async fn follow(
        self: Arc<Self>,
        name: String,
        address: HubAddress,
        number: u64,
        mut events: mpsc::Receiver<HubEvent>,
        peers: Arc<PeerRuntime>,
    ) {
        while let Some(event) = events.recv().await {
            let hub = name.clone();
            // What was heard before we left, or came again, is no news.
            let Some(joined) = self.still(&address, number, |stay| stay.joined) else { return };
            let action = match event {
                HubEvent::Joined => {
                    self.still(&address, number, |stay| stay.joined = true);
                    Action::HubConnectionSucceeded { hub }
                }
                HubEvent::Announced(peer) => {
                    if (self.settings.hops)(&peer).is_some() {
                        // It may have come just now, and would otherwise wait for our next announcement.
                        self.still(&address, number, |stay| stay.hub.answer(peer));
                    }
                    Action::RemotePeerDidAnnounce { hub, peer, route: address.route(&peer).to_string() }
                }
                HubEvent::Gone(peer) => Action::RemotePeerDidLeave { hub, peer },
                HubEvent::Signal { from, session, signal } => {
                    self.transport.signalled(&address, from, session, signal);
                    continue;
                }
                HubEvent::Lost(error) => {
                    self.stays.lock().remove(&address);
                    if joined {
                        Action::HubDidDisconnect { hub, error: Some(error) }
                    } else {
                        Action::HubConnectionFailed { hub, error }
                    }
                }
            };
            peers.apply(action);
        }
    }
}

/// Tells people what has become of a hub. One that keeps failing is told of once, not each time.
pub(crate) fn log(hub: &str, change: HubChange, failures: u32, error: Option<&str>) {
    let error = error.unwrap_or_default();
    match change {
        HubChange::Connected if failures <= 1 => tracing::info!(hub, "at a signalling hub"),
        HubChange::Disconnected if failures <= 1 => tracing::info!(hub, error, "no longer at a signalling hub"),
        HubChange::ConnectFailed if failures <= 1 => tracing::warn!(hub, error, "a signalling hub can't be used"),
        change => tracing::debug!(hub, error, failures, ?change, "a signalling hub"),
    }
}
