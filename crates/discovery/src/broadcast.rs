//! The sockets over which peers of a local network announce themselves, and the task that listens and announces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_multiserver::Address;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::lan::{self, ALL_NODES, INTERVAL, MAX_PAYLOAD};
use crate::lan_boxed;
use crate::neighbours::Neighbours;
use crate::sighting::Spotter;

/// Pause after the socket failed, as it does while there is no network.
const PAUSE: Duration = Duration::from_secs(1);

/// An address of ours, and who is told of it. Each network of this machine has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Where all in the network hear it.
    pub to: Everyone,
    /// Where others in this network reach us.
    pub address: Address,
}

/// How all in a network are told at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Everyone {
    /// By broadcast to this address, over IPv4.
    Broadcast(Ipv4Addr),
    /// By multicast on the interface with this number, over IPv6.
    AllNodes(u32),
}

/// Who announces, to whom.
pub struct Announcer {
    /// Our keys: what we hear of ourselves is passed over.
    pub keys: Keypair,
    /// The network key.
    pub network: NetworkKey,
}

/// The sockets of both forms of announcements: the plain one of ssb-local ([`lan`]) and the boxed and signed one of ssb-lan
/// ([`lan_boxed`]).
#[derive(Debug, Default)]
pub struct LanSockets {
    /// For the plain form.
    pub plain: Option<LanSocket>,
    /// For the boxed form.
    pub boxed: Option<LanSocket>,
}

/// UDP sockets for announcements over IPv4 and IPv6, whose port other programs of this machine may have open too.
#[derive(Debug)]
pub struct LanSocket {
    v4: UdpSocket,
    /// None where there is no IPv6.
    v6: Option<UdpSocket>,
    port: u16,
}

impl LanSocket {
    /// Listens on UDP `port` of all networks. To be called within a tokio runtime.
    ///
    /// # Errors
    /// A program holds the port without sharing it, or sockets can't be had. Of IPv6 that is merely logged.
    pub fn bind(port: u16) -> io::Result<LanSocket> {
        let v4 = socket(Ipv4Addr::UNSPECIFIED.into(), port)?;
        let port = v4.local_addr()?.port();
        let v6 = socket(Ipv6Addr::UNSPECIFIED.into(), port)
            .inspect_err(|error| tracing::info!(%error, port, "can't listen for peers on the local network over IPv6"));
        Ok(LanSocket { v4, v6: v6.ok(), port })
    }

    /// The port, also if any was asked for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends to all, and answers with the last error.
    async fn send(&self, payloads: impl Iterator<Item = (Everyone, Vec<u8>)>) -> Option<io::Error> {
        let mut failed = None;
        for (to, payload) in payloads {
            let sent = match (to, &self.v6) {
                (Everyone::Broadcast(to), _) => self.v4.send_to(&payload, (to, self.port)).await,
                (Everyone::AllNodes(interface), Some(v6)) => {
                    v6.send_to(&payload, SocketAddrV6::new(ALL_NODES, self.port, 0, interface)).await
                }
                (Everyone::AllNodes(_), None) => continue,
            };
            failed = sent.err().or(failed);
        }
        failed
    }

    /// What comes next. Cancel-safe.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            let received = match &self.v6 {
                Some(v6) => tokio::select! {
                    ready = self.v4.readable() => ready.and_then(|()| self.v4.try_recv_from(buffer)),
                    ready = v6.readable() => ready.and_then(|()| v6.try_recv_from(buffer)),
                },
                None => self.v4.recv_from(buffer).await,
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }
}

fn socket(listens: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address((listens, port).into()), Type::DGRAM, Some(Protocol::UDP))?;
    // As node's `reuseAddr`: every program that listens gets every broadcast.
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    match listens {
        IpAddr::V4(_) => socket.set_broadcast(true)?,
        IpAddr::V6(_) => socket.set_only_v6(true)?,
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((listens, port)).into())?;
    UdpSocket::from_std(socket.into())
}

/// What comes next; nothing ever does without a socket.
async fn receive(socket: Option<&LanSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => std::future::pending().await,
    }
}

impl LanSockets {
    /// Listens, and announces what `announcements` gives every [`INTERVAL`] milliseconds, until nobody takes sightings
    /// any more. Who falls silent is told of too. Whoever is a `friend` is heard whatever strangers do.
    pub async fn run(
        self,
        announcer: Announcer,
        announcements: impl Fn() -> Vec<Announcement> + Send,
        friend: impl Fn(&FeedId) -> bool + Send,
        spotter: Spotter,
    ) {
        let began = Instant::now();
        let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let own = announcer.keys.id();
        let mut neighbours = Neighbours::default();
        let mut interval = interval(Duration::from_millis(INTERVAL));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unsent: Option<io::ErrorKind> = None;
        let (mut plain, mut boxed) = ([0; MAX_PAYLOAD + 1], [0; MAX_PAYLOAD + 1]);
        loop {
            let (heard, sender) = tokio::select! {
                _ = interval.tick() => {
                    let failed = self.announce(&announcer, &announcements()).await;
                    // Told once, not every two seconds.
                    if let Some(error) = failed.as_ref().filter(|error| unsent != Some(error.kind())) {
                        tracing::warn!(%error, "can't announce this node on the local network");
                    }
                    unsent = failed.map(|error| error.kind());
                    for sighting in neighbours.silent(now()) {
                        // If nobody hears it, this ends below.
                        let _ = spotter.gone(sighting).await;
                    }
                    if spotter.is_ended() {
                        return;
                    }
                    continue;
                }
                received = receive(self.plain.as_ref(), &mut plain) => match received {
                    Ok((length, sender)) => (lan::parse(&plain[..length], &own), sender),
                    Err(error) => {
                        deaf(&error).await;
                        continue;
                    }
                },
                received = receive(self.boxed.as_ref(), &mut boxed) => match received {
                    Ok((length, sender)) => (lan_boxed::parse(&boxed[..length], &announcer.network, &own), sender),
                    Err(error) => {
                        deaf(&error).await;
                        continue;
                    }
                },
            };
            match heard {
                // One that can't be passed on now will be heard again.
                Ok(Some(seen)) => {
                    let Some(seen) = lan::in_zone_of(seen, sender) else {
                        tracing::debug!(%sender, "what is announced on the local network can't be dialed from here");
                        continue;
                    };
                    if neighbours.heard(&seen, sender.ip(), friend(&seen.peer), now()) && !spotter.try_see(seen.clone())
                    {
                        neighbours.forget(&seen);
                    }
                }
                Ok(None) => {}
                Err(why) => tracing::debug!(%sender, %why, "an announcement on the local network is not taken"),
            }
        }
    }

    /// Sends all of them in both forms; answers with the last error.
    async fn announce(&self, announcer: &Announcer, announcements: &[Announcement]) -> Option<io::Error> {
        let mut failed = None;
        if let Some(socket) = &self.plain {
            let payloads = announcements.iter().filter_map(|one| Some((one.to, lan::announce(&one.address)?)));
            failed = socket.send(payloads).await.or(failed);
        }
        if let Some(socket) = &self.boxed {
            let Announcer { keys, network } = announcer;
            let payload = |one: &Announcement| Some((one.to, lan_boxed::announce(&one.address, network, keys)?));
            failed = socket.send(announcements.iter().filter_map(payload)).await.or(failed);
        }
        failed
    }
}

async fn deaf(error: &io::Error) {
    tracing::debug!(%error, "can't listen on the local network");
    sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sighting::{News, Origin, sightings};
    use sbot_multiserver::Route;

    /// The broadcast address of the loopback network.
    const LOOPBACK: Everyone = Everyone::Broadcast(Ipv4Addr::new(127, 255, 255, 255));

    /// Two nodes that share the ports of `sockets`.
    async fn hear_each_other(sockets: impl Fn(&[u16]) -> (LanSockets, Vec<u16>)) {
        let (first, ports) = sockets(&[0, 0]);
        let (second, _) = sockets(&ports);
        let mut heard = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        for (sockets, seed) in [(first, 1), (second, 2)] {
            let (spotter, sightings) = sightings();
            let keys = Keypair::from_seed([seed; 32]);
            let address: Address = Route::net("192.0.2.1", 8008, &keys.id()).into();
            let announcements = move || vec![Announcement { to: LOOPBACK, address: address.clone() }];
            let announcer = Announcer { keys, network: NetworkKey([5; 32]) };
            tasks.spawn(async move { sockets.run(announcer, announcements, |_| false, spotter).await });
            heard.push(sightings);
        }
        for (sightings, other) in heard.iter_mut().zip([2, 1]) {
            let Some(News::Seen(sighting)) = sightings.next().await else { panic!("nobody is seen") };
            assert_eq!((sighting.peer, sighting.origin), (Keypair::from_seed([other; 32]).id(), Origin::Local));
        }
        tasks.shutdown().await;
        for mut sightings in heard {
            assert_eq!(sightings.next().await, None, "nothing else was told, the own announcement neither");
        }
    }

    fn plain(ports: &[u16]) -> (LanSockets, Vec<u16>) {
        let plain = LanSocket::bind(ports[0]).unwrap();
        let ports = vec![plain.port(), 0];
        (LanSockets { plain: Some(plain), boxed: None }, ports)
    }

    fn boxed(ports: &[u16]) -> (LanSockets, Vec<u16>) {
        let boxed = LanSocket::bind(ports[1]).unwrap();
        let ports = vec![0, boxed.port()];
        (LanSockets { plain: None, boxed: Some(boxed) }, ports)
    }

    #[tokio::test]
    async fn two_that_share_a_port_hear_of_each_other_and_not_of_themselves() {
        hear_each_other(plain).await;
    }

    #[tokio::test]
    async fn so_do_two_that_sign_what_they_announce() {
        hear_each_other(boxed).await;
    }
}
