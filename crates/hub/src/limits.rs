//! What strangers may make a hub do.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What a hub allows. An address is one of IPv4, or a /64 of IPv6: whoever has one of those has all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections, in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// Open subscriptions, in all.
    pub subscribers: usize,
    /// Open subscriptions from one address.
    pub subscribers_per_address: usize,
    /// Channels of one subscription.
    pub channels: usize,
    /// Bytes of `APP/CHANNEL`, for each channel.
    pub name: usize,
    /// Bytes of one message.
    pub body: usize,
    /// Requests a second from one address, over ten seconds.
    pub requests: u32,
    /// Bytes of messages a second from one address, over ten seconds.
    pub bytes: u32,
    /// Bytes that may wait for one subscriber. Who falls further behind is dropped.
    pub waiting: usize,
    /// Bytes that may wait for all of them. Beyond it whoever is furthest behind is dropped.
    pub waiting_in_all: usize,
    /// Time between two heartbeats. Who hasn't taken anything of what waits for it in this time is dropped.
    pub heartbeat: Duration,
    /// Time for a request's head, and for its body; a connection on which nothing is asked for so long is closed.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 8_192,
            connections_per_address: 256,
            subscribers: 4_096,
            // A company behind one address: a peer has two.
            subscribers_per_address: 128,
            // A peer needs one; clients of signalhub may name more.
            channels: 8,
            name: 256,
            // signalhub's.
            body: 64 * 1024,
            // A peer that dials makes some ten requests for it.
            requests: 20,
            bytes: 64 * 1024,
            waiting: 256 * 1024,
            waiting_in_all: 64 * 1024 * 1024,
            // signalhub's.
            heartbeat: Duration::from_secs(30),
            patience: Duration::from_secs(15),
        }
    }
}

/// How a hub is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// What it allows.
    pub limits: Limits,
    /// Addresses of proxies before it: whoever they name last in `X-Forwarded-For` is who asks.
    pub proxies: Vec<IpAddr>,
    /// Whether `GET /metrics` is answered with 404.
    pub hide_metrics: bool,
}

/// Who counts as one: an IPv4 address, or a /64 of IPv6.
pub(crate) fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_one_network_of_ipv6_count_as_one() {
        let counted = |text: &str| counted_as(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:2:ffff::"), "2001:db8:1:2::");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
