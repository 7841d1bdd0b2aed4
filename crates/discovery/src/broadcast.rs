//! The socket over which peers of a local network announce themselves, and the task that listens and announces.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use sbot_feed::FeedId;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::lan::{INTERVAL, MAX_PAYLOAD, parse};
use crate::neighbours::Neighbours;
use crate::sighting::Spotter;

/// Pause after the socket failed, as it does while there is no network.
const PAUSE: Duration = Duration::from_secs(1);

/// What is sent where. Each network of this machine has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The network's broadcast address.
    pub to: Ipv4Addr,
    /// As [`announce`](crate::lan::announce) makes it.
    pub payload: Vec<u8>,
}

/// A UDP socket for announcements, which other programs of this machine may have open too.
#[derive(Debug)]
pub struct LanSocket {
    socket: UdpSocket,
    port: u16,
}

impl LanSocket {
    /// Listens on UDP `port` of all networks. To be called within a tokio runtime.
    ///
    /// # Errors
    /// A program holds the port without sharing it, or sockets can't be had.
    pub fn bind(port: u16) -> io::Result<LanSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // As node's `reuseAddr`: every program that listens gets every broadcast.
        socket.set_reuse_address(true)?;
        #[cfg(all(unix, not(target_os = "linux")))]
        socket.set_reuse_port(true)?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let port = socket.local_addr()?.port();
        Ok(LanSocket { socket, port })
    }

    /// The port, also if any was asked for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Listens, and announces what `announcements` gives every [`INTERVAL`] milliseconds, until nobody takes sightings
    /// any more. Who falls silent is told of too. `own` is our key: what we hear of ourselves is passed over.
    pub async fn run(self, own: FeedId, announcements: impl Fn() -> Vec<Announcement> + Send, spotter: Spotter) {
        let began = Instant::now();
        let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut neighbours = Neighbours::default();
        let mut interval = interval(Duration::from_millis(INTERVAL));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unsent: Option<io::ErrorKind> = None;
        let mut buffer = [0; MAX_PAYLOAD + 1];
        loop {
            tokio::select! {
                _ = interval.tick() => {
                    let failed = self.announce(&announcements()).await;
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
                }
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, sender)) => match parse(&buffer[..length], &own) {
                        // One that can't be passed on now will be heard again.
                        Ok(Some(seen)) => if neighbours.heard(&seen, sender.ip(), now()) && !spotter.try_see(seen.clone()) {
                            neighbours.forget(&seen);
                        },
                        Ok(None) => {}
                        Err(why) => tracing::debug!(%sender, %why, "an announcement on the local network makes no sense"),
                    },
                    Err(error) => {
                        tracing::debug!(%error, "can't listen on the local network");
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Sends all of them; answers with the last error.
    async fn announce(&self, announcements: &[Announcement]) -> Option<io::Error> {
        let mut failed = None;
        for Announcement { to, payload } in announcements {
            if let Err(error) = self.socket.send_to(payload, SocketAddrV4::new(*to, self.port)).await {
                failed = Some(error);
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lan::announce;
    use crate::sighting::{News, Origin, sightings};
    use sbot_multiserver::Route;

    /// The broadcast address of the loopback network.
    const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

    #[tokio::test]
    async fn two_that_share_a_port_hear_of_each_other_and_not_of_themselves() {
        let first = LanSocket::bind(0).unwrap();
        let port = first.port();
        let second = LanSocket::bind(port).unwrap();
        let mut heard = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        for (socket, key) in [(first, FeedId([1; 32])), (second, FeedId([2; 32]))] {
            let (spotter, sightings) = sightings();
            let payload = announce(&Route::net("192.0.2.1", 8008, &key).into()).unwrap();
            let announcements = move || vec![Announcement { to: LOOPBACK, payload: payload.clone() }];
            tasks.spawn(async move { socket.run(key, announcements, spotter).await });
            heard.push(sightings);
        }
        for (sightings, other) in heard.iter_mut().zip([2, 1]) {
            let Some(News::Seen(sighting)) = sightings.next().await else { panic!("nobody is seen") };
            assert_eq!((sighting.peer, sighting.origin), (FeedId([other; 32]), Origin::Local));
        }
        tasks.shutdown().await;
        for mut sightings in heard {
            assert_eq!(sightings.next().await, None, "nothing else was told, the own announcement neither");
        }
    }
}
