//! The client of signalling hubs at hubs of all kinds, over real sockets.
#![allow(clippy::unwrap_used)]

mod bad;
mod good;
mod https;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sbot_discovery::hub::{Hub, HubEvent, HubSettings, join};
use sbot_feed::{FeedId, NetworkKey};
use sbot_hub::{Limits, Server, Settings};
use sbot_multiserver::HubAddress;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const NETWORK: NetworkKey = NetworkKey([7; 32]);

/// A hub of ours.
struct Ours {
    address: SocketAddr,
    watch: sbot_hub::Watch,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Ours {
    async fn start() -> Ours {
        Ours::at("127.0.0.1:0".parse().unwrap()).await
    }

    async fn at(address: SocketAddr) -> Ours {
        // Everybody in these tests is at one address.
        let limits = Limits { requests: 1_000_000, bytes: u32::MAX, ..Limits::default() };
        let server = Server::bind(address, Settings { limits, ..Settings::default() }).await.unwrap();
        let (address, watch) = (server.address().unwrap(), server.watch());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async { drop(stopped.await) }));
        Ours { address, watch, stop, running }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }
}

/// Somebody at a hub.
struct Visitor {
    id: FeedId,
    hub: Hub,
    events: mpsc::Receiver<HubEvent>,
}

impl Visitor {
    fn join(seed: u8, hub: &HubAddress, settings: HubSettings) -> Visitor {
        Visitor::join_in(NETWORK, seed, hub, settings)
    }

    fn join_in(network: NetworkKey, seed: u8, hub: &HubAddress, settings: HubSettings) -> Visitor {
        let id = FeedId([seed; 32]);
        let (hub, events) = join(hub.clone(), &network, id, settings);
        Visitor { id, hub, events }
    }

    async fn next(&mut self) -> HubEvent {
        let next = timeout(PATIENCE, self.events.recv()).await;
        next.unwrap_or_else(|_| panic!("nothing happens: {:?}", self.hub.counts())).expect("the stay is over")
    }

    async fn joined(mut self) -> Visitor {
        assert_eq!(self.next().await, HubEvent::Joined);
        self
    }

    /// The reason for which it is lost.
    async fn lost(&mut self) -> String {
        loop {
            if let HubEvent::Lost(why) = self.next().await {
                assert!(timeout(PATIENCE, self.events.recv()).await.unwrap().is_none(), "something follows");
                return why;
            }
        }
    }
}

fn address(at: SocketAddr) -> HubAddress {
    HubAddress::parse(&format!("http://{at}")).unwrap()
}

/// Those whose key begins with less than 100 are known.
fn knowing() -> HubSettings {
    HubSettings { hops: Arc::new(|peer| (peer.0[0] < 100).then_some(1)), ..HubSettings::default() }
}
