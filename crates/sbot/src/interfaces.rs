//! The addresses of this machine.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use if_addrs::{IfAddr, Interface};

use crate::config::Scope;

fn interfaces() -> Vec<Interface> {
    if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "this machine's addresses can't be listed");
        Vec::new()
    })
}

/// The IPv4 networks that this machine is in, but for its own: its address in each, and how to reach all in it.
pub(crate) fn networks() -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    interfaces().into_iter().filter_map(|interface| match interface.addr {
        IfAddr::V4(v4) if !v4.is_loopback() => Some((v4.ip, v4.broadcast?)),
        _ => None,
    })
}

/// The addresses at which this machine is part of a network: none of its own, none that are only good for one cable.
pub(crate) fn addresses() -> BTreeSet<IpAddr> {
    let far = |ip: &IpAddr| !ip.is_loopback() && !is_link_local(ip);
    interfaces().iter().map(Interface::ip).filter(far).collect()
}

/// Hosts at which this machine can be reached in a scope, loopback first for the device alone.
pub(crate) fn hosts(scope: Option<Scope>) -> Vec<String> {
    let interfaces = interfaces();
    let mut hosts: Vec<String> = interfaces
        .iter()
        .map(Interface::ip)
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
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
