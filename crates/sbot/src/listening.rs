//! Where this node listens, and what it tells others of that.

use std::path::PathBuf;

use sbot_feed::FeedId;
use sbot_multiserver::{Bind, Endpoint, Route};

use crate::api::Addresses;
use crate::config::{Config, NetIncoming, Scope};

/// Where this node listens.
pub(crate) struct Listening {
    pub(crate) id: FeedId,
    pub(crate) net: Vec<(NetIncoming, u16)>,
    pub(crate) unix: Vec<PathBuf>,
}

impl Addresses for Listening {
    fn addresses(&self, scope: Option<&str>) -> Option<String> {
        let scope = match scope {
            Some("device") => Some(Scope::Device),
            Some("local" | "private") => Some(Scope::Local),
            Some("public") => Some(Scope::Public),
            _ => None,
        };
        let mut all = Vec::new();
        for (place, port) in &self.net {
            if scope.is_some_and(|scope| !place.scopes.contains(&scope)) {
                continue;
            }
            let own_hosts = match place.host.as_deref() {
                None | Some("" | "::" | "0.0.0.0") => crate::interfaces::hosts(scope),
                Some(host) => vec![host.to_owned()],
            };
            let hosts = if place.external.is_empty() { own_hosts } else { place.external.clone() };
            all.extend(hosts.iter().map(|host| Route::net(host, *port, &self.id).to_string()));
        }
        if matches!(scope, None | Some(Scope::Device)) {
            all.extend(self.unix.iter().map(|path| Route::unix(path).to_string()));
        }
        (!all.is_empty()).then(|| all.join(";"))
    }

    fn port_everywhere(&self, scope: Scope) -> Option<u16> {
        let everywhere = |place: &NetIncoming| match place.host.as_deref() {
            None | Some("" | "::") => place.scopes.contains(&scope),
            // Not in IPv6 networks.
            Some("0.0.0.0") => scope == Scope::Public && place.scopes.contains(&scope),
            Some(_) => false,
        };
        // A forwarded port is another machine's in the local network.
        let own = |place: &NetIncoming| scope == Scope::Public || place.external.is_empty();
        self.net.iter().find(|(place, _)| everywhere(place) && own(place)).map(|(_, port)| *port)
    }
}

/// Where to listen.
pub(crate) fn binds(config: &Config) -> Vec<Bind> {
    let mut binds = Vec::new();
    for place in &config.connections.net {
        binds.push(Bind::net(place.host.as_deref().unwrap_or_default(), place.port));
    }
    binds.extend(config.connections.unix.iter().map(|unix| Bind::unix(&unix.path)));
    binds
}

/// The TCP places of the settings, with the ports that they got.
pub(crate) fn bound(config: &Config, endpoints: &[Endpoint]) -> Vec<(NetIncoming, u16)> {
    let ports = endpoints.iter().filter_map(|endpoint| match endpoint {
        Endpoint::Net { port, .. } => Some(*port),
        _ => None,
    });
    config.connections.net.iter().cloned().zip(ports).collect()
}
