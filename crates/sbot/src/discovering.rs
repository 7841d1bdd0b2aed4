//! Discovery, wired up: the sources, and what they and the social graph tell the peer manager.

use std::sync::Arc;

use sbot_discovery::{
    Announcement, Announcer, LanSocket, LanSockets, News, Origin, Sighting, Sightings, lan, lan_boxed, sightings,
};
use sbot_feed::{FeedId, Keypair};
use sbot_multiserver::{Address, Endpoint, Route};
use sbot_peer_manager::{Action, Peer, Source};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::api::{Context, PeerChange, PeerChangeKind, Peers};
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
    tasks.spawn(take_sightings(sightings, Arc::clone(peers), Arc::clone(&context.social)));
    tasks.spawn(follow_hops(Arc::clone(peers), Arc::clone(&context.social)));
    // It has not ended: the task above takes them.
    for (seed, why) in spotter.seeds(config.peers.seeds.iter().map(String::as_str)).await.unwrap_or_default() {
        tracing::warn!(seed, %why, "a seed is no address to dial");
    }
    peers.seek_local(config.peers.local);
    let addresses = Arc::clone(&context.addresses);
    let announcements = move || match addresses.addresses(Some("local")).map(|address| address.parse()) {
        Some(Ok(address)) => announcements(&address),
        _ => Vec::new(),
    };
    // As ssb-local: UDP on the port that is TCP's in the settings.
    let port = config.connections.net.first().map(|net| net.port).filter(|port| *port != 0).unwrap_or(lan::PORT);
    let (keys, network, peers) = (keys.clone(), config.caps.shs, Arc::clone(peers));
    tasks.spawn(async move {
        let mut sought = peers.sought_locally();
        // As long as there are peers to tell of.
        while sought.wait_for(|on| *on).await.is_ok() {
            let sockets = LanSockets { plain: listen(port), boxed: listen(lan_boxed::PORT) };
            let announcer = Announcer { keys: keys.clone(), network };
            tokio::select! {
                () = sockets.run(announcer, &announcements, spotter.clone()) => {}
                _ = sought.wait_for(|on| !*on) => {}
            }
            // It may have ended by itself.
            if sought.wait_for(|on| !*on).await.is_ok() {
                leave_local_network(&peers);
            }
        }
    });
}

/// Forgets who was seen on the local network: nobody listens any more for whether it is still there.
fn leave_local_network(peers: &PeerRuntime) {
    let local = |(key, peer): (&FeedId, &Peer)| {
        let routes = peer.routes.iter().filter(|route| route.is_from(Source::Local));
        routes.map(|route| (*key, route.address.clone())).collect::<Vec<_>>()
    };
    let routes: Vec<_> = peers.look(|state| state.peers().flat_map(local).collect());
    for (peer, route) in routes {
        peers.apply(Action::RouteRemoved { peer, route, source: Some(Source::Local) });
    }
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
async fn take_sightings(mut sightings: Sightings, peers: Arc<PeerRuntime>, social: Arc<Social>) {
    while let Some(news) = sightings.next().await {
        match news {
            // Heard before it was switched off.
            News::Seen(Sighting { origin: Origin::Local, .. }) if !*peers.sought_locally().borrow() => {}
            News::Seen(Sighting { peer, address, origin }) => {
                let source = match origin {
                    Origin::Manual => Source::Manual,
                    Origin::Seed => Source::Seed,
                    Origin::Local => Source::Local,
                };
                tracing::debug!(%peer, %address, source = source.name(), "a peer is seen");
                peers.apply(Action::RouteAdded { peer, route: address.to_string(), source });
                peers.apply(Action::PeerPrioritised { peer, hops: hops_of(&social.hops(), &peer) });
            }
            News::Gone(Sighting { peer, address, .. }) => {
                tracing::debug!(%peer, %address, "a peer has left the local network");
                peers.apply(Action::RouteRemoved { peer, route: address.to_string(), source: Some(Source::Local) });
            }
        }
    }
}

/// Tells the peer manager how far peers are: all of them now and whenever that changes, and each that becomes known.
async fn follow_hops(peers: Arc<PeerRuntime>, social: Arc<Social>) {
    let mut hops = social.watch();
    let mut news = peers.changes();
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
        loop {
            tokio::select! {
                changed = hops.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                change = news.recv() => match change {
                    Ok(PeerChange { kind: PeerChangeKind::Discover, peer, .. }) => {
                        let hops = hops_of(&now, &peer.key);
                        peers.apply(Action::PeerPrioritised { peer: peer.key, hops });
                    }
                    Ok(_) => {}
                    // Some were missed: all are looked at.
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// How far a peer is; `None` if it is a stranger, or blocked.
pub(crate) fn hops_of(hops: &Hops, peer: &FeedId) -> Option<u32> {
    hops.get(peer).and_then(|hops| u32::try_from(*hops).ok())
}
