//! Where an invite of ours leads: which of our addresses it names, if any can be reached by whoever gets it.
//!
//! Source: ssb-invite 2.1 `index.js` (`create`), ip 1.1 (`isPrivate`).

use std::net::{IpAddr, Ipv4Addr};

use sbot_feed::FeedId;
use sbot_multiserver::{Address, InviteCode, Route};

use crate::api::Wish;

/// Why there can be no invite; the words of ssb-invite where it has any.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    /// We listen nowhere where a guest could come in.
    #[error(
        "no address available for creating an invite,configuration needed for server.\n\
         see: https://github.com/ssbc/ssb-config/#connections"
    )]
    NoAddress,
    /// An address of ours has no host.
    #[error("Could not parse host portion from server address:{0}")]
    NoHost(String),
    /// Our address is known to our own network alone.
    #[error("Server has no public ip address, cannot create useable invitation")]
    Private,
    /// A modern invite needs a websocket, and we have none.
    #[error("not a ws address:{0}")]
    NoWebsocket(String),
    /// The host that was asked for is none.
    #[error("external must be a host name or an IP address, not {0:?}")]
    External(String),
}

/// Our addresses, each `;`-joined, as far as there are any.
pub(super) struct Offered {
    /// Those that an invite may name.
    pub(super) for_invites: Option<String>,
    /// All of them: a host that was asked for needs no more than a port.
    pub(super) any: Option<String>,
}

/// The code of an invite to the node with key `key`. `allow_private` lets it name a host of a private network.
///
/// # Errors
/// [`NoPlace`].
pub(super) fn code(
    wish: &Wish,
    offered: &Offered,
    allow_private: bool,
    key: FeedId,
    seed: [u8; 32],
) -> Result<String, NoPlace> {
    let external = wish.external.as_deref();
    // ssb-invite wants an address of its own even if another host is asked for
    let fallback = offered.any.as_ref().filter(|_| external.is_some());
    let own = offered.for_invites.as_ref().or(fallback).ok_or(NoPlace::NoAddress)?;
    let no_host = || NoPlace::NoHost(own.clone());
    let address: Address = own.parse().map_err(|_| no_host())?;
    let (own_host, port) = address.routes().iter().find_map(Route::host_and_port).ok_or_else(no_host)?;
    let host = external.unwrap_or(&own_host);
    if !allow_private && is_private(host) {
        return Err(NoPlace::Private);
    }
    if wish.modern {
        let websocket = |route: &&Route| route.protocols().first().is_some_and(|first| first.name().starts_with("ws"));
        let route = address.routes().iter().find(websocket);
        let route = route.ok_or_else(|| NoPlace::NoWebsocket(own.split(';').next().unwrap_or_default().to_owned()))?;
        return Ok(route.with_seed(&seed).to_string());
    }
    let code = InviteCode::new(host, port, key, seed);
    let code = code.map_err(|_| external.map_or_else(no_host, |external| NoPlace::External(external.to_owned())))?;
    Ok(code.to_string())
}

/// Whether nobody beyond our own network knows this host.
fn is_private(host: &str) -> bool {
    let host = host.strip_prefix("ws://").or_else(|| host.strip_prefix("wss://")).unwrap_or(host);
    let private_v4 = |ip: Ipv4Addr| ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified();
    match host.parse() {
        Ok(IpAddr::V4(ip)) => private_v4(ip),
        Ok(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => private_v4(ip),
            None => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
        },
        // a name may be anywhere
        Err(_) => host.is_empty() || host == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FeedId = FeedId([1; 32]);
    const SEED: [u8; 32] = [2; 32];

    fn wish() -> Wish {
        Wish { uses: 1, note: None, external: None, modern: false, expires: None }
    }

    fn external(host: &str) -> Wish {
        Wish { external: Some(host.into()), ..wish() }
    }

    fn at(hosts: &[&str]) -> Option<String> {
        let routes: Vec<_> = hosts.iter().map(|host| Route::net(host, 8008, &KEY).to_string()).collect();
        (!routes.is_empty()).then(|| routes.join(";"))
    }

    /// Host and port of the code, or why there is none.
    fn place(wish: &Wish, public: &[&str], any: &[&str], allow_private: bool) -> Result<String, NoPlace> {
        let offered = Offered { for_invites: at(public), any: at(any) };
        let code = code(wish, &offered, allow_private, KEY, SEED)?;
        let code: InviteCode = code.parse().unwrap();
        assert_eq!((code.key(), code.seed()), (KEY, &SEED));
        Ok(format!("{} {}", code.host(), code.port()))
    }

    #[test]
    fn an_invite_names_our_first_public_address() {
        assert_eq!(place(&wish(), &["203.0.113.1", "h.com"], &[], false).unwrap(), "203.0.113.1 8008");
        assert_eq!(place(&wish(), &["2001:db8::1"], &[], false).unwrap(), "2001:db8::1 8008");
        assert_eq!(place(&wish(), &[], &["10.0.0.1"], true), Err(NoPlace::NoAddress));
    }

    #[test]
    fn private_hosts_are_named_only_if_the_settings_allow_it() {
        for host in ["10.1.2.3", "192.168.0.1", "172.16.0.1", "127.0.0.1", "169.254.0.1", "localhost", "::1", "fe80::1"]
        {
            assert_eq!(place(&wish(), &[host], &[], false), Err(NoPlace::Private), "{host}");
            assert_eq!(place(&external(host), &["h.com"], &[], false), Err(NoPlace::Private), "{host}");
            assert_eq!(place(&wish(), &[host], &[], true).unwrap(), format!("{host} 8008"));
        }
    }

    #[test]
    fn a_host_that_is_asked_for_needs_only_a_port_of_ours() {
        assert_eq!(place(&external("h.com"), &["203.0.113.1"], &[], false).unwrap(), "h.com 8008");
        assert_eq!(place(&external("h.com"), &[], &["10.0.0.1"], false).unwrap(), "h.com 8008");
        assert_eq!(place(&external("h.com"), &[], &[], false), Err(NoPlace::NoAddress));
        for wrong in ["h.com:80", "no host", "x", "~"] {
            let refused = place(&external(wrong), &["203.0.113.1"], &[], false);
            assert_eq!(refused, Err(NoPlace::External(wrong.into())));
        }
    }

    #[test]
    fn a_modern_invite_is_the_address_of_a_websocket_with_the_seed() {
        let modern = Wish { modern: true, ..wish() };
        assert!(matches!(place(&modern, &["h.com"], &[], false), Err(NoPlace::NoWebsocket(_))));
        let net = Route::net("h.com", 8008, &KEY);
        let websocket = net.to_string().replace("net:h.com:8008", "ws://h.com:8989");
        let offered = Offered { for_invites: Some(format!("{net};{websocket}")), any: None };
        let code: InviteCode = code(&modern, &offered, false, KEY, SEED).unwrap().parse().unwrap();
        assert_eq!((code.host(), code.port(), code.seed()), ("ws://h.com", 8989, &SEED));
    }
}
