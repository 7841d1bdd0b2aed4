//! STUN and TURN servers, as browsers' `RTCConfiguration` names them.
//!
//! ```text
//! url = "stun:" host [ ":" port ]
//!     / "turn:" host [ ":" port ] [ "?transport=" ( "udp" / "tcp" ) ]
//!     / "turns:" host [ ":" port ] [ "?transport=tcp" ]
//! ```
//! The ports are 3478, and 5349 for `turns`; IPv6 addresses stand in brackets. Without a transport `turn` is UDP, and
//! `turns` is TLS over TCP.
//!
//! Source: RFC 7064, RFC 7065.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A STUN or TURN server, as in a browser's `RTCConfiguration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp]`, `turns:HOST[:PORT]`.
    pub urls: Vec<String>,
    /// The user's name, for `turn` and `turns`.
    #[serde(default)]
    pub username: String,
    /// The password, for `turn` and `turns`.
    #[serde(default)]
    pub credential: String,
}

/// Why a text names no server that we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IceServerError {
    /// It breaks the grammar.
    #[error("{url:?} is no STUN or TURN server: expected stun:HOST:PORT, turn:HOST:PORT or turns:HOST:PORT")]
    Syntax {
        /// The text.
        url: String,
    },
    /// Nothing but UDP, TCP and TLS over TCP is spoken.
    #[error("{url:?}: only turn over udp and tcp and turns over tcp are known")]
    Transport {
        /// The text.
        url: String,
    },
    /// TURN servers want to know for whom they work.
    #[error("{url:?} needs a username and a credential")]
    Credential {
        /// The text.
        url: String,
    },
}

/// How a TURN server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Udp,
    Tcp,
    Tls,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// None for STUN.
    pub(super) turn: Option<Turn>,
}

/// What makes a server a TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) carrier: Carrier,
    pub(super) username: String,
    pub(super) credential: String,
}

impl IceServer {
    /// Checks that every URL names a server that can be used.
    ///
    /// # Errors
    /// [`IceServerError`] of the first that doesn't.
    pub fn check(&self) -> Result<(), IceServerError> {
        self.servers().try_for_each(|server| server.map(drop))
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = Result<Server, IceServerError>> + '_ {
        self.urls.iter().map(|url| self.server(url))
    }

    fn server(&self, url: &str) -> Result<Server, IceServerError> {
        let syntax = || IceServerError::Syntax { url: crate::address::excerpt(url) };
        let transport = || IceServerError::Transport { url: crate::address::excerpt(url) };
        let (scheme, rest) = url.split_once(':').ok_or_else(syntax)?;
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let (usual, carrier) = match (scheme, query) {
            ("stun", None | Some("transport=udp")) => (3478, None),
            ("turn", None | Some("transport=udp")) => (3478, Some(Carrier::Udp)),
            ("turn", Some("transport=tcp")) => (3478, Some(Carrier::Tcp)),
            ("turns", None | Some("transport=tcp")) => (5349, Some(Carrier::Tls)),
            ("stun" | "turn" | "turns" | "stuns", _) => return Err(transport()),
            _ => return Err(syntax()),
        };
        let (host, port) = split(place, usual).ok_or_else(syntax)?;
        let turn = match carrier {
            None => None,
            Some(_) if self.username.is_empty() || self.credential.is_empty() => {
                return Err(IceServerError::Credential { url: crate::address::excerpt(url) });
            }
            Some(carrier) => {
                Some(Turn { carrier, username: self.username.clone(), credential: self.credential.clone() })
            }
        };
        Ok(Server { host, port, turn })
    }
}

/// Host and port; an IPv6 address without its brackets.
fn split(place: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let usual_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    if host.len() > 253 || !(usual_name(host) || host.parse::<IpAddr>().is_ok()) {
        return None;
    }
    let port = match port {
        None => usual,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok().filter(|port| *port > 0)?,
        Some(_) => return None,
    };
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, IceServerError> {
        IceServer { urls: vec![url.into()], username: "me".into(), credential: "secret".into() }.server(url)
    }

    #[test]
    fn the_forms_of_browsers_are_understood() {
        for (url, host, port, carrier) in [
            ("stun:stun.example", "stun.example", 3478, None),
            ("stun:192.0.2.1:19302", "192.0.2.1", 19302, None),
            ("stun:[2001:db8::1]:3479", "2001:db8::1", 3479, None),
            ("turn:turn.example", "turn.example", 3478, Some(Carrier::Udp)),
            ("turn:turn.example:80?transport=udp", "turn.example", 80, Some(Carrier::Udp)),
            ("turn:turn.example:80?transport=tcp", "turn.example", 80, Some(Carrier::Tcp)),
            ("turn:[::1]?transport=tcp", "::1", 3478, Some(Carrier::Tcp)),
            ("turns:turn.example", "turn.example", 5349, Some(Carrier::Tls)),
            ("turns:turn.example:443?transport=tcp", "turn.example", 443, Some(Carrier::Tls)),
        ] {
            let found = server(url).unwrap();
            assert_eq!((found.host.as_str(), found.port), (host, port), "{url}");
            assert_eq!(found.turn.map(|turn| turn.carrier), carrier, "{url}");
        }
    }

    #[test]
    fn what_names_no_server_is_refused_with_the_reason() {
        for (url, reason) in [
            ("", "is no STUN or TURN server"),
            ("stun.example:3478", "is no STUN or TURN server"),
            ("http://stun.example", "is no STUN or TURN server"),
            ("stun:", "is no STUN or TURN server"),
            ("stun://stun.example", "is no STUN or TURN server"),
            ("stun:stun.example:0", "is no STUN or TURN server"),
            ("stun:stun.example:65536", "is no STUN or TURN server"),
            ("stun:stun.example:+1", "is no STUN or TURN server"),
            ("stun:stun.example:", "is no STUN or TURN server"),
            ("stun:[::1", "is no STUN or TURN server"),
            ("stun:[::1]3478", "is no STUN or TURN server"),
            ("stun:[stun.example]", "is no STUN or TURN server"),
            ("turn:a b", "is no STUN or TURN server"),
            ("turn:user@turn.example", "is no STUN or TURN server"),
            ("stuns:stun.example", "only turn"),
            ("stun:stun.example?transport=tcp", "only turn"),
            ("turn:turn.example?transport=sctp", "only turn"),
            ("turns:turn.example?transport=udp", "only turn"),
        ] {
            let error = server(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
        let nobody = IceServer { urls: vec!["stun:a".into(), "turn:a".into()], ..Default::default() };
        assert!(nobody.check().unwrap_err().to_string().contains("needs a username"));
        assert!(IceServer { urls: vec!["stun:a".into()], ..Default::default() }.check().is_ok());
    }
}
