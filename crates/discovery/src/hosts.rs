//! Which hosts can be meant when somebody far away says where a peer is.

use std::net::IpAddr;

/// Most bytes of a host name (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;

/// Whether `host` can be where somebody else's pub is: an IP address of a single machine that isn't this one, or a name
/// with a dot in it, as ssb-ref wants it.
///
/// Addresses of private networks can: there are pubs in community networks. Those that mean another machine on every link
/// (169.254.0.0/16, fe80::/10) can't, and neither can loopback, unspecified, reserved and multicast ones.
pub(crate) fn is_elsewhere(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => is_single_host(ip),
        Err(_) => is_name(host),
    }
}

fn is_single_host(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // 0.0.0.0/8 is this network, 240.0.0.0/4 is reserved and has the broadcast address.
        IpAddr::V4(ip) => {
            let first = ip.octets()[0];
            first != 0 && first < 224 && !ip.is_loopback() && !ip.is_link_local()
        }
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unicast_link_local()
        }
    }
}

fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..64).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some((_, last)) = host.rsplit_once('.') else { return false };
    // Resolvers take 127.1 and 0x7f.0x1 for addresses; no top-level domain begins with a digit.
    let is_address = last.starts_with(|c: char| c.is_ascii_digit());
    host.len() <= MAX_NAME && host.split('.').all(label) && !is_address && !last.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_mean_another_machine_everywhere_or_none_are_told_apart() {
        for host in ["203.0.113.7", "10.1.2.3", "2001:db8::1", "fd00::1", "pub.example.org", "a_b.example.", "xn--9.de"]
        {
            assert!(is_elsewhere(host), "{host}");
        }
        for host in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "ff02::1",
            "localhost",
            "pub.localhost",
            "127.1",
            "0x7f.0x1",
            "0x7f000001",
            "pub",
            "",
            ".",
            "..",
            "a..b",
            "-a.b",
            "a b.c",
            "fe80::1%eth0",
            "a/b.c",
        ] {
            assert!(!is_elsewhere(host), "{host}");
        }
        assert!(!is_elsewhere(&format!("{}.org", "a".repeat(64))));
        assert!(!is_elsewhere(&format!("{}org", "a.".repeat(126))));
    }
}
