//! Discovery, wired up: the sources, and what they and the social graph tell the peer manager.

mod pubs;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sbot_discovery::dht::Pace;
use sbot_discovery::mdns::Service;
use sbot_discovery::{
    Announcement, Announcer, DhtSettings, Everyone, LanSocket, LanSockets, Mdns, News, Origin, Sighting, Sightings,
    Spotter, lan, lan_boxed, run_dht, sightings,
};
use sbot_feed::{FeedId, Keypair};
use sbot_multiserver::{Address, Endpoint, MAX_ROUTES, Route};
use sbot_peer_manager::{Action, KnownRoute, Peer, Source};
use tokio::task::JoinSet;

use crate::api::{Addresses, Context};
use crate::config::{Config, Scope};
use crate::interfaces::{self, Network};
use crate::peers::PeerRuntime;
use crate::social::{Hops, Social};

/// Starts the sources that the settings want, and the tasks that pass on what they tell.
pub(crate) async fn start(
    config: &Config,
    keys: &Keypair,
    context: &Arc<Context>,
    peers: &Arc<PeerRuntime>,
    tasks: &mut JoinSet<()>,
) -> Discovering {
    let (spotter, sightings) = sightings();
    tasks.spawn(take_sightings(sightings, Arc::clone(peers), config.peers.mdns));
    tasks.spawn(follow_hops(Arc::clone(peers), Arc::clone(&context.social)));
    // It has not ended: the task above takes them.
    for (seed, why) in spotter.seeds(config.peers.seeds.iter().map(String::as_str)).await.unwrap_or_default() {
        tracing::warn!(seed, %why, "a seed is no address to dial");
    }
    if config.peers.pubs {
        let (store, social) = (context.store.clone(), Arc::clone(&context.social));
        tasks.spawn(pubs::follow(store, social, context.id, config.peers.pub_hops, spotter.clone()));
    }
    if config.peers.dht {
        tasks.spawn(look_up_friends(config, context, spotter.clone()));
    }
    let mut discovering = Discovering::default();
    if config.peers.mdns {
        let (mdns, work) = Mdns::start(context.id, mdns_service(context), spotter.clone());
        tasks.spawn(work);
        discovering.mdns = Some(mdns);
    }
    peers.seek_local(config.peers.local);
    announce(config, keys, context, peers, spotter, tasks);
    discovering
}

/// Announces this node in the distributed hash table, if it listens for the public, and looks up those whom we follow.
fn look_up_friends(config: &Config, context: &Context, spotter: Spotter) -> impl Future<Output = ()> + Send + use<> {
    let port = |route: &Route| match route.endpoint() {
        Endpoint::Net { port, .. } => Some(port),
        _ => None,
    };
    // Behind a translator there is no public address to be found here, but perhaps a forwarded port.
    let everywhere = context.addresses.port_everywhere(Scope::Public);
    let bootstrap = config.peers.dht_bootstrap.clone();
    let within = |node: &String| node.parse().is_ok_and(|node: SocketAddr| node.ip().is_loopback());
    let settings = DhtSettings {
        own: context.id,
        network: config.caps.shs,
        port: everywhere.or_else(|| own_routes(&*context.addresses, "public").iter().find_map(port)),
        loopback: !bootstrap.is_empty() && bootstrap.iter().all(within),
        bootstrap,
        pace: Pace::default(),
    };
    let (social, clock) = (Arc::clone(&context.social), Arc::clone(&context.clock));
    let friends = move || {
        let hops = social.hops();
        hops.iter().filter(|(_, hops)| **hops == 1).map(|(feed, _)| *feed).collect()
    };
    run_dht(settings, friends, move || clock() as u64, spotter)
}

/// The sources that say goodbye.
#[derive(Default)]
pub(crate) struct Discovering {
    mdns: Option<Mdns>,
}

impl Discovering {
    /// Says goodbye, before the tasks are ended.
    pub(crate) async fn stop(self) {
        if let Some(mdns) = self.mdns {
            mdns.stop().await;
        }
    }
}

/// What multicast DNS says of this node: nothing while it listens for nobody on the local networks.
fn mdns_service(context: &Context) -> impl Fn() -> Option<Service> + Send + Sync + use<> {
    let addresses = Arc::clone(&context.addresses);
    move || {
        let local = own_routes(&*addresses, "local");
        let address = Address::new(local.iter().take(MAX_ROUTES).cloned().collect());
        if let Some(port) = addresses.port_everywhere(Scope::Local) {
            return Some(Service { port, ips: Vec::new(), address });
        }
        let place = |route: &Route| match route.endpoint() {
            Endpoint::Net { host, port } => Some((host.parse::<IpAddr>().ok()?, port)),
            _ => None,
        };
        let places: Vec<_> = local.iter().filter_map(place).filter(|(ip, _)| !ip.is_loopback()).collect();
        let port = places.first()?.1;
        let ips = places.iter().filter(|(_, other)| *other == port).map(|(ip, _)| *ip).collect();
        Some(Service { port, ips, address })
    }
}

/// Announces this node on the local networks and listens for others, while that is wanted.
fn announce(
    config: &Config,
    keys: &Keypair,
    context: &Arc<Context>,
    peers: &Arc<PeerRuntime>,
    spotter: Spotter,
    tasks: &mut JoinSet<()>,
) {
    let (addresses, social) = (Arc::clone(&context.addresses), Arc::clone(&context.social));
    let own = context.id;
    let friend = move |peer: &FeedId| hops_of(&social.hops(), peer).is_some();
    let announcements = move || {
        let [local, public] = ["local", "public"].map(|scope| own_routes(&*addresses, scope));
        let everywhere = addresses.port_everywhere(Scope::Local).map(|port| (own, port));
        announcements(&local, &public, everywhere, interfaces::networks())
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
                () = sockets.run(announcer, &announcements, &friend, spotter.clone()) => {}
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

/// Our addresses in a scope.
fn own_routes(addresses: &dyn Addresses, scope: &str) -> Vec<Route> {
    let all = addresses.addresses(Some(scope)).unwrap_or_default();
    all.split(';').filter_map(|one| one.parse().ok()).flat_map(|one: Address| one.routes().to_vec()).collect()
}

/// What is announced on each network: that of our addresses which is in it, or all that are for the local network if none
/// is, as behind a forwarded port.
///
/// `everywhere` is our key and the port at which every interface is listened on, if there is one: who has no better address
/// on an IPv6 network announces that which is good on this link alone, and which [`own_routes`] don't have.
fn announcements(
    local: &[Route],
    public: &[Route],
    everywhere: Option<(FeedId, u16)>,
    networks: Vec<Network>,
) -> Vec<Announcement> {
    let ip_of = |route: &Route| match route.endpoint() {
        Endpoint::Net { host, .. } => host.parse::<IpAddr>().ok(),
        _ => None,
    };
    // Who listens for nobody on the local network is silent there. In an IPv6 network the public addresses are local too.
    let public = if local.is_empty() && everywhere.is_none() { &[] } else { public };
    let with_ips: Vec<_> = local.iter().chain(public).filter_map(|route| Some((ip_of(route)?, route))).collect();
    let address_in = |Network { everyone, own }: &Network| {
        // One, the best: go-ssb reads no more than 128 bytes.
        let here = own.iter().find_map(|here| with_ips.iter().find(|(ip, _)| ip == here));
        let link_local = |ip: &&IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        match (here, everyone) {
            (Some((_, route)), _) => Some((*route).clone().into()),
            (None, Everyone::AllNodes(_)) if everywhere.is_some() => {
                let (ip, (key, port)) = own.iter().find(link_local).zip(everywhere)?;
                Some(Route::net(&ip.to_string(), port, &key).into())
            }
            // The broadcast tells of the IPv4 addresses.
            (None, Everyone::AllNodes(_)) if !with_ips.is_empty() => None,
            (None, _) => Address::new(local.iter().take(MAX_ROUTES).cloned().collect()),
        }
    };
    let announcement = |network: Network| Some(Announcement { to: network.everyone, address: address_in(&network)? });
    networks.into_iter().filter_map(announcement).collect()
}

/// Passes on what the sources tell.
async fn take_sightings(mut sightings: Sightings, peers: Arc<PeerRuntime>, mdns: bool) {
    while let Some(news) = sightings.next().await {
        match news {
            // Heard before it was switched off; what multicast DNS tells counts all the same.
            News::Seen(Sighting { origin: Origin::Local, .. }) if !mdns && !*peers.sought_locally().borrow() => {}
            News::Seen(Sighting { peer, address, origin }) => {
                let source = source_of(origin);
                tracing::debug!(%peer, %address, source = source.name(), "a peer is seen");
                peers.apply(Action::RouteAdded { peer, route: address.to_string(), source });
            }
            News::Gone(Sighting { peer, address, origin }) => {
                let (route, source) = (address.to_string(), source_of(origin));
                // What has led to the peer is no mere claim any more; on the local network it has gone all the same.
                let proved = |known: &KnownRoute| {
                    known.address == route && known.last_success.is_some() && source != Source::Local
                };
                if !peers.look(|state| state.peer(&peer).is_some_and(|known| known.routes.iter().any(proved))) {
                    tracing::debug!(%peer, %address, source = source.name(), "a peer is no longer told of");
                    peers.apply(Action::RouteRemoved { peer, route, source: Some(source) });
                }
            }
        }
    }
}

/// What the peer manager calls the origin of a sighting.
fn source_of(origin: Origin) -> Source {
    match origin {
        Origin::Manual => Source::Manual,
        Origin::Seed => Source::Seed,
        Origin::Local => Source::Local,
        Origin::Pub => Source::Pub,
        Origin::Dht => Source::Dht,
    }
}

/// Keeps those that we block out of the peer manager's hands.
pub(crate) async fn ban_the_blocked(social: Arc<Social>, peers: Arc<PeerRuntime>, own: FeedId) {
    let mut edges = social.edges();
    for (peer, relation) in social.said_by(&own) {
        if relation == sbot_graph::Relation::Block {
            peers.apply(Action::PeerBanned { peer, on: true });
        }
    }
    loop {
        match edges.recv().await {
            Ok(edge) if edge.from == own => {
                let on = edge.relation == sbot_graph::Relation::Block;
                peers.apply(Action::PeerBanned { peer: edge.to, on });
            }
            Ok(_) => {}
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                for (peer, relation) in social.said_by(&own) {
                    peers.apply(Action::PeerBanned { peer, on: relation == sbot_graph::Relation::Block });
                }
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FeedId = FeedId([1; 32]);

    fn announced(local: &[&str], public: &[&str], everywhere: bool, networks: &[(Everyone, &[&str])]) -> Vec<String> {
        let routes = |hosts: &[&str]| hosts.iter().map(|host| Route::net(host, 8008, &KEY)).collect::<Vec<_>>();
        let ips = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let networks = networks.iter().map(|(everyone, own)| Network { everyone: *everyone, own: ips(own) }).collect();
        let everywhere = everywhere.then_some((KEY, 8008));
        let all = announcements(&routes(local), &routes(public), everywhere, networks);
        let host = |route: &Route| route.host_and_port().unwrap().0;
        let hosts = |address: Address| address.routes().iter().map(host).collect::<Vec<_>>().join(";");
        all.into_iter().map(|one| format!("{:?} {}", one.to, hosts(one.address))).collect()
    }

    #[test]
    fn each_network_is_told_the_address_in_it() {
        let v4 = (Everyone::Broadcast([10, 0, 0, 255].into()), &["10.0.0.5"][..]);
        let global = (Everyone::AllNodes(2), &["2001:db8::5", "fe80::5"][..]);
        let link = (Everyone::AllNodes(3), &["fe80::6"][..]);
        assert_eq!(
            announced(&["10.0.0.5"], &["2001:db8::5"], true, &[v4, global, link]),
            ["Broadcast(10.0.0.255) 10.0.0.5", "AllNodes(2) 2001:db8::5", "AllNodes(3) fe80::6"]
        );
        // The public address is not listened on.
        assert_eq!(announced(&["10.0.0.5"], &[], true, &[global]), ["AllNodes(2) fe80::5"]);
        assert_eq!(announced(&[], &[], true, &[link]), ["AllNodes(3) fe80::6"]);
        // Who listens on IPv4 alone is silent on IPv6.
        assert_eq!(announced(&["10.0.0.5"], &[], false, &[v4, link]), ["Broadcast(10.0.0.255) 10.0.0.5"]);
        // Who is not for the local network is silent.
        assert!(announced(&[], &["2001:db8::5"], false, &[v4, global]).is_empty());
    }

    #[test]
    fn behind_a_forwarded_port_every_network_is_told_its_name() {
        let v4 = (Everyone::Broadcast([10, 0, 0, 255].into()), &["10.0.0.5"][..]);
        let link = (Everyone::AllNodes(3), &["fe80::6"][..]);
        assert_eq!(
            announced(&["a.example", "b.example"], &[], false, &[v4, link]),
            ["Broadcast(10.0.0.255) a.example;b.example", "AllNodes(3) a.example;b.example"]
        );
    }

    #[test]
    fn a_machine_with_many_addresses_is_announced_as_well() {
        let v4 = (Everyone::Broadcast([10, 0, 0, 255].into()), &["10.0.0.5"][..]);
        let many: Vec<_> = (0..30).map(|n| format!("10.9.{n}.1")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).chain(["10.0.0.5"]).collect();
        assert_eq!(announced(&many, &[], true, &[v4]), ["Broadcast(10.0.0.255) 10.0.0.5"]);
    }
}
