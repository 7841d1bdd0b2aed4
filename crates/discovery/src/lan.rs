//! What peers of the classic kind broadcast on a local network, about once a second, by UDP to [`PORT`]: their
//! multiserver address as text, perhaps several joined by `;`. Older ones send `HOST:PORT:@KEY.ed25519`.
//!
//! There is no signature: whoever is on the network can claim anything. A claim leads nowhere but to a handshake that
//! fails.
//!
//! Source: ssb-local 2.0 `index.js`; ssb-lan 1.2 `lib/index.js` (`readLegacy`, `writeLegacy`).

use std::net::IpAddr;

use sbot_feed::FeedId;
use sbot_multiserver::{Address, Endpoint};

use crate::sighting::{Origin, Refused, Sighting};

/// UDP port of the broadcasts. ssb-local uses the node's own TCP port, which is the same by default.
pub const PORT: u16 = 8008;
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
