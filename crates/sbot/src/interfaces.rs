//! The addresses of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use if_addrs::{IfAddr, Interface};
use sbot_discovery::Everyone;

use crate::config::Scope;

fn interfaces() -> Vec<Interface> {
    if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "this machine's addresses can't be listed");
        Vec::new()
    })
}

/// A network that this machine is in, but for its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// How to reach all in it.
    pub(crate) everyone: Everyone,
    /// This machine's addresses in it, best first.
    pub(crate) own: Vec<IpAddr>,
}

/// The addresses at which this machine is part of a network: none of its own, none that are only good for one cable.
pub(crate) fn addresses() -> BTreeSet<IpAddr> {
    let far = |ip: &IpAddr| !ip.is_loopback() && !is_link_local(ip);
    interfaces().iter().map(Interface::ip).filter(far).collect()
}

/// The networks that this machine is in: one for each IPv4 address, and one for each interface with IPv6 addresses.
pub(crate) fn networks() -> Vec<Network> {
    networks_of(interfaces())
}

fn networks_of(interfaces: Vec<Interface>) -> Vec<Network> {
    let mut networks = Vec::new();
    let mut links: BTreeMap<u32, Vec<Ipv6Addr>> = BTreeMap::new();
    for interface in interfaces {
        match interface.addr {
            IfAddr::V4(v4) if !v4.is_loopback() => {
                networks.extend(
                    v4.broadcast.map(|to| Network { everyone: Everyone::Broadcast(to), own: vec![v4.ip.into()] }),
                );
            }
            IfAddr::V6(v6) if !v6.is_loopback() => {
                if let Some(index) = interface.index {
                    links.entry(index).or_default().push(v6.ip);
                }
            }
            _ => {}
        }
    }
    networks.extend(links.into_iter().map(|(index, mut own)| {
        // What is good beyond the link needs no zone, so that every peer can use it; the most lasting first.
        own.sort_by_key(|ip| (ip.is_unicast_link_local(), !ip.is_unique_local()));
        Network { everyone: Everyone::AllNodes(index), own: own.into_iter().map(IpAddr::from).collect() }
    }));
    networks
}

/// Hosts at which this machine can be reached in a scope, loopback first for the device alone. IPv6 addresses that are good
/// on one link alone are left out: each machine would have to write them in another way.
pub(crate) fn hosts(scope: Option<Scope>) -> Vec<String> {
    let interfaces = interfaces();
    let mut hosts: Vec<String> = interfaces
        .iter()
        .map(Interface::ip)
        .filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()))
        .filter(|ip| match scope {
            Some(Scope::Device) => ip.is_loopback(),
            Some(Scope::Local) => !ip.is_loopback() && is_private(ip),
            Some(Scope::Public) => !ip.is_loopback() && !is_private(ip),
            None => !is_link_local(ip),
        })
        .map(|ip| ip.to_string())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_private(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use if_addrs::{Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(index: u32, ip: &str) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                let (netmask, broadcast) = ([255, 255, 255, 0].into(), Some([a, b, c, 255].into()));
                IfAddr::V4(Ifv4Addr { ip, netmask, prefixlen: 24, broadcast })
            }
            IpAddr::V6(ip) => {
                IfAddr::V6(Ifv6Addr { ip, netmask: Ipv6Addr::UNSPECIFIED, prefixlen: 64, broadcast: None })
            }
        };
        Interface { name: format!("eth{index}"), addr, index: Some(index) }
    }

    #[test]
    fn every_network_is_told_the_addresses_that_are_good_in_it() {
        let all = ["127.0.0.1", "::1"].map(|ip| interface(1, ip)).into_iter();
        let all = all.chain(["10.0.0.5", "10.1.0.5", "fe80::5", "2001:db8::5", "fd00::5"].map(|ip| interface(2, ip)));
        let all = all.chain([interface(3, "fe80::6")]).collect();
        let own = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(
            networks_of(all),
            [
                Network { everyone: Everyone::Broadcast([10, 0, 0, 255].into()), own: own(&["10.0.0.5"]) },
                Network { everyone: Everyone::Broadcast([10, 1, 0, 255].into()), own: own(&["10.1.0.5"]) },
                Network { everyone: Everyone::AllNodes(2), own: own(&["fd00::5", "2001:db8::5", "fe80::5"]) },
                Network { everyone: Everyone::AllNodes(3), own: own(&["fe80::6"]) },
            ]
        );
    }
}
