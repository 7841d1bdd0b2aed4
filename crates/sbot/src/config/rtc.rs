//! `rtc`: signalling hubs, and how connections over WebRTC are made.
//!
//! The shapes are those of `RTCConfiguration` in browsers. A key that isn't known is an error: whoever asks for
//! `iceTransportPolicy` and mistypes it would give its address away.

use std::fmt;

use sbot_multiserver::HubAddress;

use super::ConfigError;
use super::layers::Section;

/// Signalling hubs and connections over WebRTC (`rtc`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rtc {
    /// `rtc.hubs`: signalling hubs to meet peers at.
    pub hubs: Vec<HubAddress>,
    /// `rtc.iceServers`: STUN and TURN servers, as in a browser's `RTCConfiguration`.
    pub ice_servers: Vec<IceServer>,
    /// `rtc.iceTransportPolicy` is `relay`: only connections by TURN servers, so that peers don't learn our address.
    pub relay_only: bool,
}

/// A STUN or TURN server (`rtc.iceServers`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IceServer {
    /// `urls`: `stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp]`, `turns:HOST[:PORT]`.
    pub urls: Vec<String>,
    /// `username`, for `turn`.
    pub username: String,
    /// `credential`: the password, for `turn`.
    pub credential: String,
}

impl fmt::Debug for IceServer {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).field("username", &self.username).finish_non_exhaustive()
    }
}

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
    let expected = "stun:HOST:PORT, turn:HOST:PORT or turns:HOST:PORT, or several of them";
    let urls = section.parsed_list("urls", expected, |text| Some(text.to_owned()))?;
    let username = section.text("username")?.unwrap_or_default();
    let credential = section.text("credential")?.unwrap_or_default();
    let server = IceServer { urls: urls.unwrap_or_default(), username, credential };
    #[cfg(feature = "rtc")]
    if let Err(error) = server.for_transport().check()
        && let Some(place) = section.place_of("urls")
    {
        return Err(ConfigError::Conflict { place, message: format!("rtc.iceServers: {error}") });
    }
    section.finish_strictly()?;
    Ok(server)
}

#[cfg(feature = "rtc")]
impl IceServer {
    /// As the transport takes it.
    pub(crate) fn for_transport(&self) -> sbot_multiserver::IceServer {
        let IceServer { urls, username, credential } = self.clone();
        sbot_multiserver::IceServer { urls, username, credential }
    }
}
