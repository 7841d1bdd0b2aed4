//! Discovery, wired up: the sources, and what they and the social graph tell the peer manager.

use std::sync::Arc;

use sbot_discovery::{
    Announcement, Announcer, LanSocket, LanSockets, News, Origin, Sighting, Sightings, lan, lan_boxed, sightings,
};
use sbot_feed::{FeedId, Keypair};
use sbot_multiserver::{Address, Endpoint, Route};
use sbot_peer_manager::{Action, Peer, Source};
use tokio::task::JoinSet;

use crate::api::Context;
use crate::config::Config;
use crate::interfaces;
use crate::peers::PeerRuntime;
use crate::social::{Hops, Social};

/// Starts the sources that the settings want, and the tasks that pass on what they tell.
pub(crate) async fn start(
    config: &Config,
    keys: &Keypair,
    context: &Arc<Context>,
    peers: &Arc<PeerRuntime>,
    tasks: &mut JoinSet<()>,
) {
    let (spotter, sightings) = sightings();
    tasks.spawn(take_sightings(sightings, Arc::clone(peers)));
    tasks.spawn(follow_hops(Arc::clone(peers), Arc::clone(&context.social)));
    // It has not ended: the task above takes them.
    for (seed, why) in spotter.seeds(config.peers.seeds.iter().map(String::as_str)).await.unwrap_or_default() {
        tracing::warn!(seed, %why, "a seed is no address to dial");
    }
    if !config.peers.local {
        return;
    }
    let addresses = Arc::clone(&context.addresses);
    let announcements = move || match addresses.addresses(Some("local")).map(|address| address.parse()) {
        Some(Ok(address)) => announcements(&address),
        _ => Vec::new(),
    };
    // As ssb-local: UDP on the port that is TCP's in the settings.
    let port = config.connections.net.first().map(|net| net.port).filter(|port| *port != 0).unwrap_or(lan::PORT);
    let sockets = LanSockets { plain: listen(port), boxed: listen(lan_boxed::PORT) };
    let announcer = Announcer { keys: keys.clone(), network: config.caps.shs };
    tasks.spawn(sockets.run(announcer, announcements, spotter));
}

fn listen(port: u16) -> Option<LanSocket> {
    LanSocket::bind(port)
        .inspect_err(|error| tracing::warn!(%error, port, "can't listen for peers on the local network"))
        .ok()
}

/// What is announced on each local network: that of our addresses which is in it, or all if none is, as behind a
/// forwarded port.
fn announcements(own: &Address) -> Vec<Announcement> {
    let address = |host: &str| {
        let is_here =
            |route: &&Route| matches!(route.endpoint(), Endpoint::Net { host: listens, .. } if listens == host);
        own.routes().iter().find(is_here).map_or_else(|| own.clone(), |route| route.clone().into())
    };
    interfaces::networks().map(|(ip, to)| Announcement { to, address: address(&ip.to_string()) }).collect()
}

/// Passes on what the sources tell.
async fn take_sightings(mut sightings: Sightings, peers: Arc<PeerRuntime>) {
    while let Some(news) = sightings.next().await {
        match news {
            News::Seen(Sighting { peer, address, origin }) => {
                let source = match origin {
                    Origin::Manual => Source::Manual,
                    Origin::Seed => Source::Seed,
                    Origin::Local => Source::Local,
                };
                tracing::debug!(%peer, %address, source = source.name(), "a peer is seen");
                peers.apply(Action::RouteAdded { peer, route: address.to_string(), source });
            }
            News::Gone(Sighting { peer, address, .. }) => {
                tracing::debug!(%peer, %address, "a peer has left the local network");
                peers.apply(Action::RouteRemoved { peer, route: address.to_string(), source: Some(Source::Local) });
            }
        }
    }
}

/// Tells the peer manager how far peers are, now and whenever that changes.
async fn follow_hops(peers: Arc<PeerRuntime>, social: Arc<Social>) {
    let mut hops = social.watch();
    loop {
        let now = Arc::clone(&hops.borrow_and_update());
        let changed = |(key, peer): (&FeedId, &Peer)| {
            let hops = hops_of(&now, key);
            (peer.hops != hops).then_some((*key, hops))
        };
        let changed: Vec<_> = peers.look(|state| state.peers().filter_map(changed).collect());
        for (peer, hops) in changed {
            peers.apply(Action::PeerPrioritised { peer, hops });
        }
        if hops.changed().await.is_err() {
            return;
        }
    }
}

/// How far a peer is; `None` if it is a stranger, or blocked.
pub(crate) fn hops_of(hops: &Hops, peer: &FeedId) -> Option<u32> {
    hops.get(peer).and_then(|hops| u32::try_from(*hops).ok())
}
