//! The addresses of this machine.

use crate::config::Scope;

/// Hosts at which this machine can be reached in a scope, loopback first for the device alone.
pub(crate) fn hosts(scope: Option<Scope>) -> Vec<String> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "this machine's addresses can't be listed");
        Vec::new()
    });
    let mut hosts: Vec<String> = interfaces
        .iter()
        .map(if_addrs::Interface::ip)
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

fn is_link_local(ip: &std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_private(ip: &std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
