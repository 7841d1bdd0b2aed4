//! The grammar of addresses.
//!
//! ```text
//! address  = route *( ";" route )
//! route    = protocol *( "~" protocol )
//! protocol = name *( ":" data )
//! name     = a-z 1*( a-z / 0-9 / "-" )
//! data     = *( any printable ASCII but space ! : ; ~  /  "!" followed by one of ! : ; ~ )
//! ```
//! Transports that are not known here (`ws`, `onion`, `tunnel`, …) are kept as they are. IPv6 hosts are written without
//! escapes, `net:::1:8008~shs:KEY`: the last part is the port, all before it the host. What stands behind `rtc` is in
//! [`HubAddress`]'s module.
//!
//! Source: multiserver-address 1.0 `multiserver.ne`. Its `encode` does not escape; ours does, so that what was parsed
//! can be parsed again.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sbot_feed::FeedId;

use crate::hub::{HubAddress, RTC};

/// Most bytes of an address that we parse.
pub const MAX_ADDRESS: usize = 4096;
/// Most alternatives in one address.
pub const MAX_ROUTES: usize = 16;

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It breaks the grammar.
    #[error("expected {expected} at byte {at} of the address {text:?}")]
    Syntax {
        /// The text as given, at most 120 characters of it.
        text: String,
        /// Where parsing stopped, in bytes.
        at: usize,
        /// What could have stood there.
        expected: &'static str,
    },
    /// It is longer than [`MAX_ADDRESS`] or has more than [`MAX_ROUTES`] alternatives.
    #[error("the address is too long: {length} bytes (at most {MAX_ADDRESS} bytes and {MAX_ROUTES} alternatives)")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is none of ssb-ref's old forms either.
    #[error("{text:?} is no address: expected HOST:PORT:@KEY.ed25519 or net:HOST:PORT~shs:KEY")]
    Legacy {
        /// The text as given, at most 120 characters of it.
        text: String,
    },
}

/// One or more routes to one peer, in order of preference.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    routes: Vec<Route>,
}

/// One way to a peer: a transport and what is laid over it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    protocols: Vec<Protocol>,
}

/// A name and its data, as `net:example.org:8008`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol {
    name: String,
    data: Vec<String>,
}

/// Where a route leads, as far as we understand it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP.
    Net {
        /// Name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// The socket's file.
        path: PathBuf,
    },
    /// WebRTC, with the signals passed on by a hub.
    Rtc {
        /// Where the peer is met.
        hub: HubAddress,
        /// Whom to ask for there.
        peer: Option<FeedId>,
    },
    /// Another transport.
    Other(Protocol),
}

impl Address {
    /// An address with these alternatives; `None` if there are none or more than [`MAX_ROUTES`].
    pub fn new(routes: Vec<Route>) -> Option<Self> {
        (1..=MAX_ROUTES).contains(&routes.len()).then_some(Address { routes })
    }

    /// The alternatives, at least one.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The peer's key, from the first route that has one.
    pub fn key(&self) -> Option<FeedId> {
        self.routes.iter().find_map(Route::key)
    }
}

impl From<Route> for Address {
    fn from(route: Route) -> Self {
        Address { routes: vec![route] }
    }
}

impl Route {
    /// A route of these protocols, at least one.
    pub(crate) fn new(protocols: Vec<Protocol>) -> Self {
        Route { protocols }
    }

    /// `net:HOST:PORT~shs:KEY`.
    pub fn net(host: &str, port: u16, key: &FeedId) -> Self {
        let mut data: Vec<String> = host.split(':').map(str::to_owned).collect();
        data.push(port.to_string());
        Route { protocols: vec![Protocol { name: "net".into(), data }, Protocol::shs(key)] }
    }

    /// `unix:PATH~noauth`.
    pub fn unix(path: &std::path::Path) -> Self {
        let path = Protocol { name: "unix".into(), data: vec![path.to_string_lossy().into_owned()] };
        Route { protocols: vec![path, Protocol { name: "noauth".into(), data: Vec::new() }] }
    }

    /// The transport, then what is laid over it; at least one.
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// The peer's key, if the secret handshake is part of the route.
    pub fn key(&self) -> Option<FeedId> {
        self.shs().and_then(|shs| base64(shs.data.first()?)).map(FeedId)
    }

    /// The seed of the key to dial with in place of our own, as in an invite: `shs:KEY:SEED`.
    pub fn seed(&self) -> Option<[u8; 32]> {
        self.shs().and_then(|shs| base64(shs.data.get(1)?))
    }

    /// Whether the connection goes without a handshake, since only we ourselves can reach it.
    pub fn is_noauth(&self) -> bool {
        self.protocols.get(1).is_some_and(|protocol| protocol.name == "noauth")
    }

    /// Where it leads. Ill-formed `net`, `unix` or `rtc` parts are [`Endpoint::Other`].
    pub fn endpoint(&self) -> Endpoint {
        // A route has one protocol at least.
        let Some(transport) = self.protocols.first() else {
            return Endpoint::Other(Protocol { name: String::new(), data: Vec::new() });
        };
        match (transport.name.as_str(), transport.data.as_slice()) {
            ("net", [host @ .., port]) if !host.is_empty() => match port.parse() {
                // As multiserver's `net.js`, which takes no host for this machine.
                Ok(port) => {
                    let host = host.join(":");
                    Endpoint::Net { host: if host.is_empty() { "localhost".into() } else { host }, port }
                }
                Err(_) => Endpoint::Other(transport.clone()),
            },
            ("unix", [_, ..]) => Endpoint::Unix { path: transport.data.join(":").into() },
            (RTC, data) => match HubAddress::from_data(data) {
                Ok(Some(hub)) => Endpoint::Rtc { hub, peer: self.key() },
                _ => Endpoint::Other(transport.clone()),
            },
            _ => Endpoint::Other(transport.clone()),
        }
    }

    /// Host and port as ssb-ref's `toLegacyAddress` shows them; the host of a websocket keeps its `ws:` or `wss:`.
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let transport = self.protocols.first()?;
        let prefix = match transport.name.as_str() {
            "net" | "onion" => "",
            "ws" => "ws:",
            "wss" => "wss:",
            _ => return None,
        };
        let (port, host) = transport.data.split_last()?;
        let host = host.join(":");
        (!host.is_empty()).then_some((format!("{prefix}{host}"), port.parse().ok()?))
    }

    fn shs(&self) -> Option<&Protocol> {
        self.protocols.iter().find(|protocol| protocol.name == "shs")
    }
}

impl Protocol {
    /// A name, which has to be one by the grammar, and data.
    pub(crate) fn new(name: &str, data: Vec<String>) -> Self {
        Protocol { name: name.to_owned(), data }
    }

    /// `shs:KEY`.
    pub(crate) fn shs(key: &FeedId) -> Self {
        Protocol { name: "shs".into(), data: vec![key_text(key)] }
    }

    /// `net`, `shs`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands behind the name, without escapes.
    pub fn data(&self) -> &[String] {
        &self.data
    }
}

/// The base64 of a key, as addresses hold it.
pub(crate) fn key_text(key: &FeedId) -> String {
    let text = key.to_string();
    text.trim_start_matches('@').trim_end_matches(".ed25519").to_owned()
}

/// 32 bytes in base64.
pub(crate) fn base64_text(bytes: &[u8; 32]) -> String {
    key_text(&FeedId(*bytes))
}

/// 32 bytes of canonical base64, just as in a feed id.
pub(crate) fn base64(text: &str) -> Option<[u8; 32]> {
    format!("@{text}.ed25519").parse().ok().map(|FeedId(bytes)| bytes)
}

/// At most 120 characters of a text, for messages.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(120).collect()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        let byte = self.peek().filter(|byte| wanted(*byte))?;
        self.at += 1;
        Some(byte)
    }

    fn fail<T>(&self, expected: &'static str) -> Result<T, AddressError> {
        Err(AddressError::Syntax { text: excerpt(self.text), at: self.at, expected })
    }

    fn address(&mut self) -> Result<Address, AddressError> {
        let mut routes = vec![self.route()?];
        while self.take(|byte| byte == b';').is_some() {
            if routes.len() == MAX_ROUTES {
                return Err(AddressError::TooLong { length: self.text.len() });
            }
            routes.push(self.route()?);
        }
        if self.at < self.text.len() {
            return self.fail("`:`, `~`, `;`, data without spaces, or the end");
        }
        Ok(Address { routes })
    }

    fn route(&mut self) -> Result<Route, AddressError> {
        let mut protocols = vec![self.protocol()?];
        while self.take(|byte| byte == b'~').is_some() {
            protocols.push(self.protocol()?);
        }
        Ok(Route { protocols })
    }

    fn protocol(&mut self) -> Result<Protocol, AddressError> {
        let start = self.at;
        if self.take(|byte| byte.is_ascii_lowercase()).is_none() {
            return self.fail("the name of a protocol (a small letter first)");
        }
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.take(rest).is_none() {
            return self.fail("another letter or digit of the protocol's name");
        }
        while self.take(rest).is_some() {}
        let name = self.text[start..self.at].to_owned();
        let mut data = Vec::new();
        while self.take(|byte| byte == b':').is_some() {
            data.push(self.data()?);
        }
        Ok(Protocol { name, data })
    }

    fn data(&mut self) -> Result<String, AddressError> {
        let mut data = String::new();
        loop {
            if let Some(byte) = self.take(|byte| matches!(byte, b'"'..=b'9' | b'<'..=b'}')) {
                data.push(char::from(byte));
            } else if self.take(|byte| byte == b'!').is_some() {
                match self.take(is_special) {
                    Some(byte) => data.push(char::from(byte)),
                    None => return self.fail("one of `!`, `:`, `;`, `~` after the escape `!`"),
                }
            } else {
                return Ok(data);
            }
        }
    }
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'!' | b':' | b';' | b'~')
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong { length: text.len() });
        }
        Parser { text, at: 0 }.address()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for data in &self.data {
            f.write_str(":")?;
            for c in data.chars() {
                if c.is_ascii() && is_special(c as u8) {
                    f.write_str("!")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

fn join<T: fmt::Display>(f: &mut fmt::Formatter<'_>, parts: &[T], separator: char) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            write!(f, "{separator}")?;
        }
        write!(f, "{part}")?;
    }
    Ok(())
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.protocols, '~')
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({self})")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.routes, ';')
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
