//! Multicast DNS service discovery (RFC 6762, RFC 6763): a node is an instance of the service [`SERVICE`].
//!
//! SRV, A and AAAA records say where it is, the TXT record has two keys:
//! - `key`: the feed id, `@….ed25519`;
//! - `address`: multiserver addresses joined by `;`, as many as fit. May be left out: the other records say the same.
//!
//! An instance is named by the beginning of its key in hexadecimal, so that two nodes of one machine differ. As with the
//! broadcasts ([`crate::lan`]), all of it is anybody's word until a handshake.
//!
//! [`Service`] is how a node is described, [`Found`] how one is read, [`Services`] remembers who was found, within bounds.
//! [`Mdns`](crate::Mdns) does the IO.
//!
//! No other implementation that we could read does this; the keys of the TXT record are ours.

use std::collections::HashMap;
use std::net::IpAddr;

use sbot_feed::FeedId;
use sbot_multiserver::{Address, Endpoint, Route};

use crate::hosts::is_elsewhere;
use crate::lan::announced;
use crate::sighting::{News, Origin, Sighting};

/// The service and its domain.
pub const SERVICE: &str = "_ssb._tcp.local.";
/// Most instances that are remembered. More than a local network has.
pub const MOST_SERVICES: usize = 256;
/// Most addresses of one instance.
pub const MOST_OF_SERVICE: usize = 8;
/// Most bytes of an entry of a TXT record, its name included (RFC 6763, 6.1).
const MAX_ENTRY: usize = 255;

/// This node, as it is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The TCP port.
    pub port: u16,
    /// The IP addresses that are listened on; none for all of this machine, whichever they are.
    pub ips: Vec<IpAddr>,
    /// Addresses of the node, for those who want them in one piece.
    pub address: Option<Address>,
}

impl Service {
    /// The entries of the TXT record.
    pub fn txt(&self, own: &FeedId) -> Vec<(&'static str, String)> {
        let address = self.address.as_ref().and_then(|address| announced(address, MAX_ENTRY - "address=".len()));
        [("key", Some(own.to_string())), ("address", address)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// The name of a node's instance, and of its host.
pub fn name_of(own: &FeedId) -> String {
    own.0[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An instance of the service, as it was resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its full name.
    pub name: String,
    /// Its TCP port.
    pub port: u16,
    /// Its IP addresses, each with the number of the interface on which it was found, or 0.
    pub ips: Vec<(IpAddr, u32)>,
    /// The TXT record's `key`.
    pub key: Option<String>,
    /// The TXT record's `address`.
    pub address: Option<String>,
}

impl Found {
    /// What it claims: at most [`MOST_OF_SERVICE`] addresses, IPv4 first, all of one key. None if there is no key.
    fn sightings(&self) -> Vec<Sighting> {
        let address: Option<Address> = self.address.as_deref().and_then(|address| address.parse().ok());
        let key = match &self.key {
            Some(key) => key.parse().ok(),
            None => address.as_ref().and_then(Address::key),
        };
        let Some(key) = key else { return Vec::new() };
        let mut ips = self.ips.clone();
        ips.sort_by_key(|(ip, zone)| (ip.is_ipv6(), is_link_local(ip), *ip, *zone));
        let resolved = ips.iter().filter_map(|(ip, zone)| {
            let host = match (is_link_local(ip), zone) {
                (true, 0) => return None,
                (true, zone) => format!("{ip}%{zone}"),
                (false, _) => ip.to_string(),
            };
            let usable = (is_link_local(ip) || is_elsewhere(&host)) && self.port != 0;
            usable.then(|| Route::net(&host, self.port, &key))
        });
        let told = address.iter().flat_map(Address::routes).filter(|route| {
            let elsewhere = matches!(route.endpoint(), Endpoint::Net { host, port: 1.. } if is_elsewhere(&host));
            elsewhere && route.key() == Some(key) && route.seed().is_none()
        });
        let mut routes: Vec<Route> = Vec::new();
        for route in resolved.chain(told.cloned()) {
            if routes.len() < MOST_OF_SERVICE && !routes.contains(&route) {
                routes.push(route);
            }
        }
        routes.into_iter().map(|route| Sighting { peer: key, address: route.into(), origin: Origin::Local }).collect()
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The instances that were found.
#[derive(Debug)]
pub struct Services {
    own: FeedId,
    /// By full name.
    found: HashMap<String, Vec<Sighting>>,
}

impl Services {
    /// Nobody is found. What is said of `own` is passed over.
    pub fn new(own: FeedId) -> Services {
        Services { own, found: HashMap::new() }
    }

    /// An instance was resolved, or is another than before; answers what is new. Of more than [`MOST_SERVICES`] those that
    /// came later are passed over, until others go.
    pub fn resolved(&mut self, found: Found) -> Vec<News> {
        let mut now = found.sightings();
        now.retain(|sighting| sighting.peer != self.own);
        let is_known = self.found.contains_key(&found.name);
        if now.is_empty() || (!is_known && self.found.len() >= MOST_SERVICES) {
            return self.removed(&found.name);
        }
        let before = self.found.insert(found.name, now.clone()).unwrap_or_default();
        let gone = before.iter().filter(|one| !now.contains(one)).map(|one| News::Gone(one.clone()));
        gone.chain(now.iter().filter(|one| !before.contains(one)).map(|one| News::Seen(one.clone()))).collect()
    }

    /// An instance has gone; answers what of it is gone.
    pub fn removed(&mut self, name: &str) -> Vec<News> {
        self.found.remove(name).unwrap_or_default().into_iter().map(News::Gone).collect()
    }

    /// Forgets all; answers what of them is gone.
    pub fn clear(&mut self) -> Vec<News> {
        std::mem::take(&mut self.found).into_values().flatten().map(News::Gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";
    const OWN: FeedId = FeedId([1; 32]);

    fn found(name: &str, ips: &[(&str, u32)], address: Option<&str>) -> Found {
        let ips = ips.iter().map(|(ip, zone)| (ip.parse().unwrap(), *zone)).collect();
        let key = Some(format!("@{KEY}.ed25519"));
        Found { name: name.into(), port: 8008, ips, key, address: address.map(str::to_owned) }
    }

    fn texts(news: &[News]) -> Vec<String> {
        let text = |news: &News| match news {
            News::Seen(sighting) => format!("+{}", sighting.address),
            News::Gone(sighting) => format!("-{}", sighting.address),
        };
        news.iter().map(|news| text(news).replace(&format!(":8008~shs:{KEY}"), "")).collect()
    }

    #[test]
    fn where_a_node_is_follows_from_its_records() {
        let mut services = Services::new(OWN);
        let all = [("fe80::2", 3), ("fd00::2", 3), ("10.0.0.2", 0), ("127.0.0.1", 0), ("fe80::2", 0), ("ff02::1", 3)];
        let news = services.resolved(found("a", &all, Some(&format!("net:a.example:8008~shs:{KEY}"))));
        assert_eq!(texts(&news), ["+net:10.0.0.2", "+net:fd00::2", "+net:fe80::2%3", "+net:a.example"]);
        assert_eq!(services.resolved(found("a", &all, Some(&format!("net:a.example:8008~shs:{KEY}")))), []);
        let news = services.resolved(found("a", &[("10.0.0.2", 0), ("10.0.0.9", 0)], None));
        assert_eq!(texts(&news), ["-net:fd00::2", "-net:fe80::2%3", "-net:a.example", "+net:10.0.0.9"]);
        assert_eq!(texts(&services.removed("a")), ["-net:10.0.0.2", "-net:10.0.0.9"]);
        assert_eq!(services.removed("a"), []);
    }

    #[test]
    fn only_what_could_be_a_peer_is_news() {
        let mut services = Services::new(OWN);
        let here = [("10.0.0.2", 0)];
        let own = Found { key: Some(OWN.to_string()), ..found("own", &here, None) };
        let no_key = Found { key: None, ..found("none", &here, None) };
        let odd_key = Found { key: Some("@odd".into()), ..found("odd", &here, None) };
        let no_port = Found { port: 0, ..found("port", &here, None) };
        let nowhere = found("nowhere", &[("0.0.0.0", 0)], Some("unix:/socket~noauth"));
        let others =
            found("others", &[], Some(&format!("net:10.0.0.3:1~shs:{};unix:/x~shs:{KEY}", "A".repeat(43) + "=")));
        let seed = found("seed", &[], Some(&format!("net:10.0.0.3:1~shs:{KEY}:{KEY}")));
        for found in [own, no_key, odd_key, no_port, nowhere, others, seed] {
            assert_eq!(services.resolved(found.clone()), [], "{found:?}");
        }
        let by_address = Found { key: None, ..found("x", &[], Some(&format!("net:10.0.0.3:8008~shs:{KEY}"))) };
        assert_eq!(texts(&services.resolved(by_address)), ["+net:10.0.0.3"]);
    }

    #[test]
    fn a_flood_is_bounded_and_makes_nobody_forgotten() {
        let mut services = Services::new(OWN);
        assert_eq!(services.resolved(found("first", &[("10.0.0.1", 0)], None)).len(), 1);
        let many: Vec<_> = (1..200).map(|n| (std::net::Ipv4Addr::from(0x0b00_0000 + n).into(), 0)).collect();
        let flood = |n| Found { ips: many.clone(), ..found(&format!("flood {n}"), &[], None) };
        let taken: usize = (0..10_000).map(|n| services.resolved(flood(n)).len()).sum();
        assert_eq!(taken, (MOST_SERVICES - 1) * MOST_OF_SERVICE);
        assert_eq!(services.found.len(), MOST_SERVICES);
        assert_eq!(services.removed("flood 0").len(), MOST_OF_SERVICE);
        assert_eq!(services.resolved(flood(99_999)).len(), MOST_OF_SERVICE);
        assert_eq!(texts(&services.removed("first")), ["-net:10.0.0.1"]);
        assert_eq!(services.clear().len(), (MOST_SERVICES - 1) * MOST_OF_SERVICE);
    }

    #[test]
    fn what_we_announce_is_understood_and_fits() {
        let key: FeedId = format!("@{KEY}.ed25519").parse().unwrap();
        let routes = (0..16).map(|n| Route::net(&format!("fd00:1111:2222:3333:4444:5555:6666:77{n:02}"), 8008, &key));
        let service = Service { port: 8008, ips: Vec::new(), address: Address::new(routes.collect()) };
        let txt: HashMap<_, _> = service.txt(&key).into_iter().collect();
        assert!(txt.iter().all(|(name, value)| name.len() + 1 + value.len() <= MAX_ENTRY), "{txt:?}");
        let heard =
            Found { key: Some(txt["key"].clone()), address: Some(txt["address"].clone()), ..found("a", &[], None) };
        assert_eq!(Services::new(OWN).resolved(heard).len(), 2);
        assert_eq!(name_of(&OWN).len(), 32);
    }

    proptest! {
        #[test]
        fn any_txt_record_is_read_without_a_panic(key in ".{0,80}", address in ".{0,255}", port: u16) {
            let _ = Services::new(OWN).resolved(Found { key: Some(key), port, ..found("a", &[], Some(&address)) });
        }
    }
}
