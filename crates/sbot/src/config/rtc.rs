//! `rtc`: signalling hubs, and how connections over WebRTC are made.
//!
//! The shapes are those of `RTCConfiguration` in browsers. A key that isn't known is an error: whoever asks for
//! `iceTransportPolicy` and mistypes it would give its address away.

use sbot_multiserver::HubAddress;

use super::layers::Section;
use super::{ConfigError, IceServer, Rtc};

/// What a URL in `iceServers` looks like.
const ICE: &str = "stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp or tcp], turns:HOST[:PORT], or several of them";

/// Reads `rtc`.
pub(super) fn read(rtc: &mut Rtc, root: &Section<'_>) -> Result<(), ConfigError> {
    let section = root.section("rtc")?;
    let expected = "addresses of signalling hubs, https://HOST[:PORT] or http://HOST[:PORT]";
    if let Some(hubs) = section.parsed_list("hubs", expected, |text| HubAddress::parse(text).ok())? {
        rtc.hubs = hubs;
    }
    for server in section.sections("iceServers")?.unwrap_or_default() {
        rtc.ice_servers.push(ice_server(server)?);
    }
    let policy = |text: &str| match text {
        "all" => Some(false),
        "relay" => Some(true),
        _ => None,
    };
    if let Some(relay_only) = section.parsed("iceTransportPolicy", "all or relay", policy)? {
        rtc.relay_only = relay_only;
        let turn = |url: &String| !url.starts_with("stun:");
        if relay_only
            && !rtc.ice_servers.iter().any(|server| server.urls.iter().any(turn))
            && let Some(place) = section.place_of("iceTransportPolicy")
        {
            let message = "rtc.iceTransportPolicy is relay, and rtc.iceServers has no turn server".into();
            return Err(ConfigError::Conflict { place, message });
        }
    }
    section.finish_strictly()
}

fn ice_server(section: Section<'_>) -> Result<IceServer, ConfigError> {
    let urls = section.parsed_list("urls", ICE, |text| is_ice_url(text).then(|| text.to_owned()))?.unwrap_or_default();
    let username = section.text("username")?.unwrap_or_default();
    let credential = section.text("credential")?.unwrap_or_default();
    let place = section.place_of("urls");
    let needs_user = urls.iter().any(|url| !url.starts_with("stun:"));
    if needs_user
        && (username.is_empty() || credential.is_empty())
        && let Some(place) = place
    {
        let message = "a turn server in rtc.iceServers needs username and credential".into();
        return Err(ConfigError::Conflict { place, message });
    }
    section.finish_strictly()?;
    Ok(IceServer { urls, username, credential })
}

/// RFC 7064 and RFC 7065, with the schemes that are supported.
fn is_ice_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let (place, transport) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    let known = match (scheme, transport) {
        ("stun" | "turns", None) | ("turn", None | Some("transport=udp" | "transport=tcp")) => true,
        ("turns", Some("transport=tcp")) => true,
        _ => false,
    };
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("none"))),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    known
        && !host.is_empty()
        && host.chars().all(sound)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_ice_servers_are_those_of_browsers() {
        for good in [
            "stun:stun.example",
            "stun:192.0.2.1:3478",
            "stun:[2001:db8::1]:3478",
            "stun:[2001:db8::1]",
            "turn:turn.example?transport=tcp",
            "turn:turn.example:3478?transport=udp",
            "turns:turn.example:5349",
            "turns:turn.example?transport=tcp",
        ] {
            assert!(is_ice_url(good), "{good}");
        }
        for bad in [
            "",
            "stun",
            "stun:",
            "stun:host:0",
            "stun:host:65536",
            "stun:host:",
            "stun://host",
            "http:host",
            "stuns:host",
            "turn:host?transport=sctp",
            "turn:host?",
            "stun:host?transport=udp",
            "stun:ho st",
            "stun:[::1",
            "stun:[::1]3478",
            "turn:user@host",
        ] {
            assert!(!is_ice_url(bad), "{bad}");
        }
    }
}
