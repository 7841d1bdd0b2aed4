//! Signalling hubs: where peers without a public address meet to make a direct connection.
//!
//! A [`HubAddress`] is written as a URL, or as the transport `rtc` of an address:
//!
//! ```text
//! hub   = [ scheme "://" ] host [ ":" port ] [ "/" ]      ; no scheme is http, as for signalhub's client
//! route = "rtc:" [ scheme ":" ] host ":" port [ "~shs:" key ]
//! scheme = "https" / "http"                               ; none in a route is https
//! ```
//! The first part of a route is its scheme only if at least two more follow: `rtc:https:443` is a host of that name. IPv6
//! hosts stand in brackets in a URL and without any in a route, `rtc:http:::1:8080`, as with `net`. Names are written in
//! small letters and Punycode, IP addresses in their usual form, so that equal hubs are equal texts. Nothing but the
//! place of the hub may be given: a user, a path, a query or a fragment is refused.
//!
//! Source: signalhub 4.9 `index.js` (URLs), multiserver-address 1 (escapes).

use std::fmt;
use std::str::FromStr;

use sbot_feed::FeedId;
use url::{Host, Url};

use crate::address::{Address, Protocol, Route, excerpt};

/// The transport's name in addresses.
pub(crate) const RTC: &str = "rtc";
/// Most bytes of a text that is looked at: the longest host name (253 bytes) in any notation, a scheme and a port.
const MAX_TEXT: usize = 1024;
/// Most bytes of a host name, as DNS has it.
const MAX_HOST: usize = 253;

/// Why a text is no hub's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubAddressError {
    /// It is longer than any hub's address.
    #[error("the address of a hub is too long: {length} bytes (at most {MAX_TEXT})")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is neither a URL nor an `rtc:` route.
    #[error("{text:?} is no address of a hub: {reason}")]
    Syntax {
        /// The text as given, at most 120 characters of it.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is a URL with another scheme.
    #[error("{text:?} is no address of a hub: expected http or https, not {scheme}")]
    Scheme {
        /// The text as given, at most 120 characters of it.
        text: String,
        /// The scheme found.
        scheme: String,
    },
    /// It says more than where the hub is.
    #[error("{text:?} is no address of a hub: {what} has no place in it")]
    Excess {
        /// The text as given, at most 120 characters of it.
        text: String,
        /// What is too much.
        what: &'static str,
    },
}

/// Where a signalling hub is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubAddress {
    host: String,
    port: u16,
    secure: bool,
}

impl HubAddress {
    /// Reads a URL (`https://hub.example`, `hub.example:8080`) or a route (`rtc:hub.example:443~shs:KEY`, of which the
    /// key is left away).
    ///
    /// # Errors
    /// [`HubAddressError`]
    pub fn parse(text: &str) -> Result<Self, HubAddressError> {
        if text.len() > MAX_TEXT {
            return Err(HubAddressError::TooLong { length: text.len() });
        }
        if text.starts_with("rtc:") { Self::from_route(text) } else { Self::from_url(text) }
    }

    fn from_route(text: &str) -> Result<Self, HubAddressError> {
        let bad = |reason: &str| HubAddressError::Syntax { text: excerpt(text), reason: reason.into() };
        let address: Address = text.parse().map_err(|_| bad("it breaks the grammar of addresses"))?;
        let [route] = address.routes() else { return Err(bad("expected one route")) };
        let transport = route.protocols().first().filter(|transport| transport.name() == RTC);
        let data = transport.map(Protocol::data).ok_or_else(|| bad("expected rtc:HOST:PORT"))?;
        Self::from_data(data)?.ok_or_else(|| bad("expected rtc:HOST:PORT"))
    }

    /// From the data of an `rtc` protocol; `None` if its shape is another.
    pub(crate) fn from_data(data: &[String]) -> Result<Option<Self>, HubAddressError> {
        let (scheme, rest) = match data {
            [scheme, rest @ ..] if rest.len() >= 2 && (scheme == "http" || scheme == "https") => {
                (scheme.as_str(), rest)
            }
            rest => ("https", rest),
        };
        let Some((port, host)) = rest.split_last().filter(|(_, host)| !host.is_empty()) else { return Ok(None) };
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let host = host.join(":");
        let length = host.len();
        if length > MAX_TEXT {
            return Err(HubAddressError::TooLong { length });
        }
        let bracketed = host.contains(':') && !host.starts_with('[');
        let host = if bracketed { format!("[{host}]") } else { host };
        Self::from_url(&format!("{scheme}://{host}:{port}")).map(Some)
    }

    fn from_url(text: &str) -> Result<Self, HubAddressError> {
        let bad = |reason: String| HubAddressError::Syntax { text: excerpt(text), reason };
        let excess = |what| HubAddressError::Excess { text: excerpt(text), what };
        // The parser of URLs would drop or mend these.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(bad("spaces, control characters and backslashes are not allowed".into()));
        }
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        let url = url.map_err(|error| bad(error.to_string()))?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(HubAddressError::Scheme { text: excerpt(text), scheme: excerpt(other) }),
        };
        if text.contains('@') {
            return Err(excess("a user or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(excess("a query or fragment"));
        }
        if !matches!(url.path(), "" | "/") {
            return Err(excess("a path"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(bad("it has no host".into())),
        };
        let usual = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_:".contains(&byte);
        let gaps = host.split('.').any(str::is_empty);
        if gaps || host.len() > MAX_HOST || !host.bytes().all(usual) {
            return Err(bad("its host is no name of a host".into()));
        }
        match url.port_or_known_default() {
            Some(port @ 1..) => Ok(HubAddress { host, port, secure }),
            _ => Err(bad("port 0 is none".into())),
        }
    }

    /// Whether it is spoken to by https.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The way to a peer that is at this hub: `rtc:HOST:PORT~shs:KEY`.
    pub fn route(&self, peer: &FeedId) -> Route {
        Route::new(vec![self.protocol(), Protocol::shs(peer)])
    }

    /// `rtc:HOST:PORT`, with `http:` before the host where it has to be.
    pub(crate) fn protocol(&self) -> Protocol {
        let mut data = Vec::new();
        if !self.secure {
            data.push("http".to_owned());
        }
        data.extend(self.host.split(':').map(str::to_owned));
        data.push(self.port.to_string());
        Protocol::new(RTC, data)
    }
}

impl FromStr for HubAddress {
    type Err = HubAddressError;

    fn from_str(text: &str) -> Result<Self, HubAddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for HubAddress {
    /// As a URL without what goes without saying: `https://hub.example`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]", self.host)?;
        } else {
            write!(f, "{scheme}://{}", self.host)?;
        }
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Debug for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubAddress({self})")
    }
}

/// One attempt at a connection between two peers at a hub: drawn at random by whoever offers, and part of each signal
/// of both. Written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub [u8; 16]);

/// A text that is no [`Session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session is written as 32 lower-case hexadecimal digits")]
pub struct SessionError;

impl FromStr for Session {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, SessionError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(SessionError),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(SessionError) };
        let mut bytes = [0; 16];
        if pairs.len() != bytes.len() {
            return Err(SessionError);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Session(bytes))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({self})")
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
