//! Routes: at which addresses a peer might be, of which kind they are, and who says so.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::state::Millis;

/// Most bytes of a route.
pub const MAX_ROUTE: usize = 1024;

/// Who says that a peer is at a route, the most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The user.
    Manual,
    /// The settings.
    Seed,
    /// An earlier run, or another program's file.
    Stored,
    /// The peer itself, on the local network. Not saved.
    Local,
    /// A `pub` message.
    Pub,
    /// An invite.
    Invite,
    /// The distributed hash table. Not saved.
    Dht,
    /// A signalling hub or room. Not saved.
    Hub,
    /// A client that shows it to the user (`conn.stage`). Not saved.
    Staged,
}

impl Source {
    const ALL: [(Source, &'static str); 9] = [
        (Source::Manual, "manual"),
        (Source::Seed, "seed"),
        (Source::Stored, "stored"),
        (Source::Local, "local"),
        (Source::Pub, "pub"),
        (Source::Invite, "invite"),
        (Source::Dht, "dht"),
        (Source::Hub, "hub"),
        (Source::Staged, "staged"),
    ];

    /// The name, as ssb-gossip shows it where it knows the source.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(source, _)| *source == self).map_or("", |(_, name)| name)
    }

    /// The source with this name.
    pub fn from_name(name: &str) -> Option<Source> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(source, _)| *source)
    }

    /// Whether a route of this source is worth keeping over a restart.
    pub fn is_saved(self) -> bool {
        !matches!(self, Source::Local | Source::Dht | Source::Hub | Source::Staged)
    }

    /// Whether it takes up a peer again that was forgotten because it couldn't be reached.
    pub(crate) fn revives(self) -> bool {
        !matches!(self, Source::Pub | Source::Dht | Source::Stored | Source::Staged)
    }

    /// Whether strangers are dialed there, too. If not, only those whom the social graph knows.
    pub(crate) fn reaches_strangers(self) -> bool {
        matches!(self, Source::Manual | Source::Seed | Source::Stored | Source::Pub | Source::Invite)
    }
}

/// What kind of link a route makes. Each has slots of its own; earlier ones are tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// On this machine or the local network.
    Lan,
    /// Through a room's tunnel.
    Room,
    /// Over WebRTC, met at a signalling hub.
    Hub,
    /// To a public address.
    #[default]
    Internet,
    /// Through Tor.
    Onion,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Lan, Kind::Room, Kind::Hub, Kind::Internet, Kind::Onion];

    /// The kind of a multiserver address, by its first route: what comes before the first colon, and for the internet's
    /// ones the host.
    pub fn of(address: &str) -> Kind {
        let (scheme, rest) = address.split_once(':').unwrap_or((address, ""));
        match scheme {
            "unix" => Kind::Lan,
            "tunnel" => Kind::Room,
            "rtc" => Kind::Hub,
            "onion" => Kind::Onion,
            _ if host_of(rest).is_some_and(is_near) => Kind::Lan,
            _ => Kind::Internet,
        }
    }

    /// `lan`, `room`, `hub`, `internet` or `onion`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lan => "lan",
            Kind::Room => "room",
            Kind::Hub => "hub",
            Kind::Internet => "internet",
            Kind::Onion => "onion",
        }
    }
}

/// The host in what follows a scheme, if it is an IP address: `192.168.1.5:8008~…`, `fe80\:\:1:8008~…`, `//10.0.0.1:80`.
fn host_of(rest: &str) -> Option<IpAddr> {
    let rest = rest.trim_start_matches('/');
    let place = rest.split(['~', ';', '/']).next().unwrap_or(rest);
    let plain = place.replace('\\', "");
    let host = plain.rsplit_once(':').map_or(plain.as_str(), |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host.split('%').next().unwrap_or(host).parse().ok()
}

/// Whether an address is one of this machine or of a local network.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether an address leads to this machine: links there outlive the network.
pub(crate) fn is_loopback(address: &str) -> bool {
    match address.split_once(':') {
        Some(("unix", _)) => true,
        Some((_, rest)) => {
            host_of(rest).is_some_and(|ip| ip.to_canonical().is_loopback()) || rest.starts_with("localhost:")
        }
        None => false,
    }
}

/// A place where a peer might be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRoute {
    /// A multiserver address.
    pub address: String,
    /// The most trusted one of those who say so.
    pub source: Source,
    /// Who else says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Source>,
    /// What kind of link it makes.
    #[serde(default)]
    pub kind: Kind,
    /// How often it was said.
    pub announced: u32,
    /// When it worked last.
    pub last_success: Option<Millis>,
    /// How often it has failed since.
    pub failures: u32,
    /// Whether it has been tried since the last pause.
    #[serde(default)]
    pub tried: bool,
}

impl KnownRoute {
    pub(crate) fn new(address: String, source: Source) -> Self {
        let mut route = KnownRoute {
            address,
            source,
            also: Vec::new(),
            kind: Kind::default(),
            announced: 1,
            last_success: None,
            failures: 0,
            tried: false,
        };
        route.settle_kind();
        route
    }

    /// All who say so.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        std::iter::once(self.source).chain(self.also.iter().copied())
    }

    /// Whether `source` says so.
    pub fn is_from(&self, source: Source) -> bool {
        self.sources().any(|known| known == source)
    }

    /// Takes note that `source` says so, too; false if that was known.
    pub(crate) fn said_by(&mut self, source: Source) -> bool {
        if self.is_from(source) {
            return false;
        }
        self.also.push(source);
        self.put_best_first();
        true
    }

    /// Keeps only the sources that `keep` picks; false if there is none, and the route is to go.
    pub(crate) fn keep_sources(&mut self, keep: impl Fn(Source) -> bool) -> bool {
        self.also.retain(|source| keep(*source));
        if keep(self.source) {
            return true;
        }
        let Some(other) = self.also.pop() else { return false };
        self.source = other;
        self.put_best_first();
        true
    }

    fn put_best_first(&mut self) {
        self.also.push(self.source);
        self.also.sort_unstable();
        self.source = self.also.remove(0);
        self.settle_kind();
    }

    /// Finds out the kind anew: the sources have changed, or it comes from a file.
    pub(crate) fn settle_kind(&mut self) {
        self.kind = if self.is_from(Source::Local) { Kind::Lan } else { Kind::of(&self.address) };
    }

    /// Routes of one rank are tried together, those of a lower one before: near ones, then those that have worked, then
    /// those that have failed least.
    pub(crate) fn rank(&self) -> (bool, bool, u32) {
        (self.kind != Kind::Lan, self.last_success.is_none(), self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_address_is_told_by_its_scheme_and_host() {
        for (address, kind) in [
            ("net:192.168.1.5:8008~shs:x", Kind::Lan),
            ("net:127.0.0.1:8008~shs:x;net:1.2.3.4:8008~shs:x", Kind::Lan),
            (r"net:fe80\:\:1:8008~shs:x", Kind::Lan),
            ("net:fe80::1%eth0:8008~shs:x", Kind::Lan),
            ("ws://10.0.0.1:8989~shs:x", Kind::Lan),
            ("unix:/tmp/socket~noauth", Kind::Lan),
            ("net:pub.example:8008~shs:x", Kind::Internet),
            ("net:1.2.3.4:8008~shs:x", Kind::Internet),
            ("wss:pub.example:443~shs:x", Kind::Internet),
            ("tunnel:@room.ed25519:@peer.ed25519~shs:x", Kind::Room),
            ("rtc:hub.example:443~shs:x", Kind::Hub),
            ("onion:abc.onion:8008~shs:x", Kind::Onion),
            ("", Kind::Internet),
        ] {
            assert_eq!(Kind::of(address), kind, "{address}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for near in ["net:127.0.0.1:8008~shs:x", "net:localhost:8008~shs:x", r"net:\:\:1:8008~shs:x", "unix:/s~noauth"]
        {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["net:10.0.0.1:8008~shs:x", "net:localhost.example:1~shs:x", "", "net:"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn a_route_is_known_as_long_as_anyone_says_so() {
        let mut route = KnownRoute::new("net:pub.example:8008~shs:x".into(), Source::Pub);
        assert!(route.said_by(Source::Local) && !route.said_by(Source::Pub) && route.said_by(Source::Dht));
        assert_eq!(route.sources().collect::<Vec<_>>(), [Source::Local, Source::Pub, Source::Dht]);
        assert_eq!(route.kind, Kind::Lan);
        assert!(route.keep_sources(|source| source != Source::Local));
        assert_eq!((route.source, route.kind), (Source::Pub, Kind::Internet));
        assert!(!route.keep_sources(|source| !matches!(source, Source::Pub | Source::Dht)));
    }

    #[test]
    fn sources_are_found_by_their_names() {
        for (source, name) in Source::ALL {
            assert_eq!((source.name(), Source::from_name(name)), (name, Some(source)));
        }
    }
}
