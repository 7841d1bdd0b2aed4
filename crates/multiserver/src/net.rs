//! TCP. Without delay for small packets (`TCP_NODELAY`): a call and its answer are small, and waiting to fill a packet
//! costs them 40 ms each. A peer that vanishes without a word, with its machine or its network, is noticed by the kernel:
//! it probes idle connections ([`KEEPALIVE`]).
//!
//! Source: multiserver 3 `plugins/net.js`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use crate::address::Endpoint;
use crate::transport::{Acceptor, Origin, Pending, Raw, Transport};

/// Most addresses of a host name that are tried, so that a name server can't keep us busy.
const MAX_RESOLVED: usize = 8;

/// An idle connection is probed after so long, and then as often as the next two say, before it is taken for dead: two
/// minutes in all. (A limit on unacknowledged data, `TCP_USER_TIMEOUT`, would end connections with slow readers, too.)
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// TCP over IPv4 and IPv6.
#[derive(Debug, Clone, Copy, Default)]
pub struct Net;

impl Transport for Net {
    fn name(&self) -> &'static str {
        "net"
    }

    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Raw>>> {
        let Endpoint::Net { host, port } = endpoint else { return None };
        Some(Box::pin(connect(host, *port)))
    }

    fn listen<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Box<dyn Acceptor>>>> {
        let Endpoint::Net { host, port } = endpoint else { return None };
        Some(Box::pin(async move {
            let listener = bind(host, *port).await?;
            let local = listener.local_addr()?;
            let endpoint = Endpoint::Net { host: local.ip().to_string(), port: local.port() };
            Ok(Box::new(NetAcceptor { listener, endpoint }) as Box<dyn Acceptor>)
        }))
    }
}

/// `[::1]`, as in URLs, is meant as `::1`.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

async fn connect(host: &str, port: u16) -> io::Result<Raw> {
    let mut last = None;
    for address in tokio::net::lookup_host((bare(host), port)).await?.take(MAX_RESOLVED) {
        match TcpStream::connect(address).await {
            Ok(stream) => return raw(stream, address),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host name has no addresses")))
}

/// Listens on `host`; on all interfaces, for IPv4 and IPv6 if the system can, for `::` and the empty host.
async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    match bare(host) {
        "" | "::" => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            // A system without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
            }
            result => result,
        },
        host => TcpListener::bind((host, port)).await,
    }
}

fn raw(stream: TcpStream, remote: SocketAddr) -> io::Result<Raw> {
    stream.set_nodelay(true)?;
    watch(&stream);
    // An IPv4 peer of a listener for both shows as ::ffff:192.0.2.1.
    let ip = remote.ip().to_canonical();
    let (read, write) = stream.into_split();
    Ok(Raw {
        read: Box::new(read),
        write: Box::new(write),
        address: format!("net:{ip}:{}", remote.port()),
        origin: Origin::Ip(limited(ip)),
    })
}

/// Has the kernel watch over a connection. Where it can't, the connection is as good as any.
fn watch(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "dead connections are noticed late");
    }
}

/// Whose limits an IP address falls under: a host has a whole /64 of IPv6 addresses.
pub(crate) fn limited(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip => ip,
    }
}

struct NetAcceptor {
    listener: TcpListener,
    endpoint: Endpoint,
}

impl Acceptor for NetAcceptor {
    fn accept(&mut self) -> Pending<'_, io::Result<Raw>> {
        Box::pin(async {
            let (stream, remote) = self.listener.accept().await?;
            raw(stream, remote)
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_a_64_share_their_limits() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(limited(ip("2001:db8:1:2::3")), limited(ip("2001:db8:1:2:ffff::4")));
        assert_ne!(limited(ip("2001:db8:1:2::3")), limited(ip("2001:db8:1:3::3")));
        assert_ne!(limited(ip("192.0.2.1")), limited(ip("192.0.2.2")));
    }
}
