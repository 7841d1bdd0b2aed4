//! What peers of the classic kind broadcast on a local network, about once a second, by UDP to [`PORT`]: their
//! multiserver address as text, perhaps several joined by `;`. Older ones send `HOST:PORT:@KEY.ed25519`.
//!
//! There is no signature: whoever is on the network can claim anything. A claim leads nowhere but to a handshake that
//! fails.
//!
//! IPv6 has no broadcast. There the same goes to the group of all nodes of a link ([`ALL_NODES`]), as with go-ssb. An
//! address that is good on one link alone (`fe80::…`) is announced without its zone, which is the announcing machine's own
//! name for the link; who hears it puts the zone in its place in which it was heard ([`in_zone_of`]).
//!
//! Sources: ssb-local 2.0 `index.js`; ssb-lan 1.2 `lib/index.js` (`readLegacy`, `writeLegacy`), both of them IPv4 alone;
//! go-ssb `network/network_advertiser.go` and `network/network_discoverer.go`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sbot_feed::FeedId;
use sbot_multiserver::{Address, Endpoint, Route};

use crate::sighting::{Origin, Refused, Sighting};

/// UDP port of the broadcasts. ssb-local uses the node's own TCP port, which is the same by default.
pub const PORT: u16 = 8008;
/// The group to which IPv6 announcements go, plain and boxed: all nodes of a link (RFC 4291, 2.7.1). go-ssb sends there, and
/// nobody has to join it, so that networks may come and go.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Milliseconds between two broadcasts of ours (ssb-local: 1 s, ssb-lan: 2 s).
pub const INTERVAL: u64 = 2_000;
/// Milliseconds of silence after which a peer is taken to be gone (ssb-local, ssb-conn).
pub const SILENCE: u64 = 10_000;
/// Most bytes of a payload that we read or write: what fits one packet of an Ethernet.
pub const MAX_PAYLOAD: usize = 1_400;

/// Reads a payload; `None` for our own, which comes back to us.
///
/// # Errors
/// [`Refused`] if it is no address, has no key, or is too long.
pub fn parse(payload: &[u8], own: &FeedId) -> Result<Option<Sighting>, Refused> {
    // What isn't text can't be an address, and is shown as far as it goes.
    let text = String::from_utf8_lossy(payload.get(..MAX_PAYLOAD + 1).unwrap_or(payload));
    if payload.len() > MAX_PAYLOAD {
        return Err(Refused::Address(sbot_multiserver::AddressError::TooLong { length: payload.len() }));
    }
    let sighting = Sighting::new(Address::from_any(&text)?, Origin::Local)?;
    Ok((sighting.peer != *own).then_some(sighting))
}

/// What was heard from `sender`, with addresses that can be dialed from here: those that are good on one link alone get
/// the zone of the link on which they were heard, and are left out if it isn't known. `None` if none is left.
pub fn in_zone_of(sighting: Sighting, sender: SocketAddr) -> Option<Sighting> {
    let zone = match sender {
        SocketAddr::V6(sender) if sender.scope_id() != 0 => Some(sender.scope_id()),
        _ => None,
    };
    let routes = sighting.address.routes().iter().filter_map(|route| match route.endpoint() {
        Endpoint::Net { host, port } => match link_local(&host) {
            Some(ip) => Some(Route::net(&format!("{ip}%{}", zone?), port, &route.key()?)),
            None => Some(route.clone()),
        },
        _ => Some(route.clone()),
    });
    Sighting::new(Address::new(routes.collect())?, sighting.origin).ok()
}

/// The address, if it is an IPv6 one that is good on one link alone; with or without brackets and a zone.
fn link_local(host: &str) -> Option<Ipv6Addr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip: Ipv6Addr = host.split_once('%').map_or(host, |(ip, _)| ip).parse().ok()?;
    ip.is_unicast_link_local().then_some(ip)
}

/// Makes the payload that announces us at `address`; `None` if it has no route over TCP with a key, or none that fits.
/// Routes of other transports, and those within this machine, are left out: nobody else can use them.
pub fn announce(address: &Address) -> Option<Vec<u8>> {
    announced(address, MAX_PAYLOAD).map(String::into_bytes)
}

/// What is announced of an address, in so many bytes at most.
pub(crate) fn announced(address: &Address, room: usize) -> Option<String> {
    let mut text = String::new();
    for route in address.routes() {
        let reachable = matches!(route.endpoint(), Endpoint::Net { host, .. } if !is_loopback(&host));
        let usable = reachable && route.key().is_some() && route.seed().is_none();
        let route = route.to_string();
        if !usable || text.len() + 1 + route.len() > room {
            continue;
        }
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(&route);
    }
    (!text.is_empty()).then_some(text)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sbot_multiserver::Route;

    const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";
    const OWN: FeedId = FeedId([1; 32]);

    fn other() -> FeedId {
        format!("@{KEY}.ed25519").parse().unwrap()
    }

    #[test]
    fn what_ssb_local_and_ssb_lan_send_is_understood() {
        for payload in [
            format!("net:192.168.1.5:8008~shs:{KEY}"),
            format!("net:192.168.1.5:8008~shs:{KEY};ws://192.168.1.5:8989~shs:{KEY}"),
            format!("net:fe80::1:8008~shs:{KEY}"),
            // go-ssb
            format!("net:[fe80::1]:8008~shs:{KEY}"),
            format!("192.168.1.5:8008:@{KEY}.ed25519"),
        ] {
            let sighting = parse(payload.as_bytes(), &OWN).unwrap().unwrap();
            assert_eq!((sighting.peer, sighting.origin), (other(), Origin::Local));
        }
    }

    #[test]
    fn our_own_broadcast_is_no_news() {
        let payload = announce(&Route::net("192.168.1.5", 8008, &OWN).into()).unwrap();
        assert_eq!(parse(&payload, &OWN), Ok(None));
    }

    #[test]
    fn only_what_others_can_use_is_announced() {
        let joined: Address =
            format!("unix:/s~noauth;net:127.0.0.1:8008~shs:{KEY};net:10.0.0.1:8008~shs:{KEY};ws://10.0.0.1:80~shs:{KEY};net:10.0.0.2:1~shs:{KEY}")
                .parse()
                .unwrap();
        let payload = announce(&joined).unwrap();
        assert_eq!(payload, format!("net:10.0.0.1:8008~shs:{KEY};net:10.0.0.2:1~shs:{KEY}").into_bytes());
        assert_eq!(announce(&"unix:/s~noauth".parse().unwrap()), None);
        assert_eq!(announce(&format!("net:localhost:1~shs:{KEY};net:::1:1~shs:{KEY}").parse().unwrap()), None);
        assert_eq!(announce(&format!("net:h:1~shs:{KEY}:{KEY}").parse().unwrap()), None, "an invite's seed");
    }

    #[test]
    fn an_address_of_one_link_gets_the_zone_in_which_it_was_heard() {
        let heard = |address: &str, sender: &str| {
            let sighting = Sighting::new(address.parse().unwrap(), Origin::Local).unwrap();
            in_zone_of(sighting, sender.parse().unwrap()).map(|sighting| sighting.address.to_string())
        };
        let zoned = Some(format!("net:fe80::1%3:8008~shs:{KEY}"));
        for announced in ["fe80::1", "[fe80::1]", "fe80::1%eth7"] {
            assert_eq!(heard(&format!("net:{announced}:8008~shs:{KEY}"), "[fe80::2%3]:8008"), zoned, "{announced}");
        }
        for good_everywhere in ["fd00::1", "2001:db8::1", "10.0.0.1", "host.local"] {
            let address = format!("net:{good_everywhere}:8008~shs:{KEY}");
            assert_eq!(heard(&address, "[fe80::2%3]:8008"), Some(address.clone()));
            assert_eq!(heard(&address, "10.0.0.1:8008"), Some(address));
        }
        let both = format!("net:fe80::1:8008~shs:{KEY};net:10.0.0.1:8008~shs:{KEY}");
        assert_eq!(heard(&both, "10.0.0.1:8008"), Some(format!("net:10.0.0.1:8008~shs:{KEY}")));
        assert_eq!(heard(&format!("net:fe80::1:8008~shs:{KEY}"), "10.0.0.1:8008"), None);
        let parsed: Address = format!("net:fe80::1%3:8008~shs:{KEY}").parse().unwrap();
        assert_eq!(parsed.routes()[0].endpoint(), Endpoint::Net { host: "fe80::1%3".into(), port: 8008 });
    }

    #[test]
    fn overlong_payloads_are_refused() {
        let long = format!("net:{}:8008~shs:{KEY}", "a".repeat(MAX_PAYLOAD));
        assert!(matches!(parse(long.as_bytes(), &OWN), Err(Refused::Address(_))));
    }

    proptest! {
        #[test]
        fn any_packet_is_read_or_refused_without_a_panic(packet in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = parse(&packet, &OWN);
        }

        #[test]
        fn what_we_announce_is_understood(host in "[a-z][a-z0-9.]{0,40}", port: u16) {
            prop_assume!(host != "localhost");
            let address: Address = Route::net(&host, port, &other()).into();
            let sighting = parse(&announce(&address).unwrap(), &OWN).unwrap().unwrap();
            prop_assert_eq!(sighting.address, address);
        }
    }
}
