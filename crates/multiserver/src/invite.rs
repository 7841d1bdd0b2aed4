//! Invite codes of classic pubs: where the pub is, and the seed of the key with which its guest dials it.
//!
//! ```text
//! old form          HOST:PORT:@KEY.ed25519~SEED
//! multiserver form  net:HOST:PORT~shs:KEY:SEED      (also ws, wss and onion)
//! ```
//! Either may be followed by `#` and something for a browser, which means nothing here. Whoever has the code has the
//! invite: [`InviteCode`] shows its seed only when it is printed with `Display`.
//!
//! Source: ssb-ref 2.16 `index.js` (`isInvite`, `parseInvite`), ssb-invite 2.1 `index.js` (`accept`), is-valid-domain.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sbot_feed::FeedId;

use crate::address::{Address, AddressError, MAX_ADDRESS, Protocol, Route, base64, base64_text, excerpt, key_text};

/// The transports that a code may name.
const TRANSPORTS: [&str; 4] = ["net", "ws", "wss", "onion"];
/// Longest host name (is-valid-domain, after RFC 1035).
const MAX_HOST: usize = 253;
/// Longest part of a host name.
const MAX_LABEL: usize = 63;

/// Why a text is no invite code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It is neither form.
    #[error("{text:?} is no invite code: expected HOST:PORT:@KEY.ed25519~SEED or net:HOST:PORT~shs:KEY:SEED")]
    Form {
        /// The text up to where a seed may begin, at most 120 characters of it.
        text: String,
    },
    /// It would be a code, but for its address.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// An invite code.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode {
    host: String,
    port: u16,
    key: FeedId,
    seed: [u8; 32],
    /// Routes that hold the seed, at least one.
    dial: Address,
    /// Whether it is written in the old form.
    old_form: bool,
}

impl InviteCode {
    /// A code in the old form for a pub at `host` and `port`.
    ///
    /// # Errors
    /// [`InviteError::Form`] if `host` is no IP address, no domain and not `localhost`.
    pub fn new(host: &str, port: u16, key: FeedId, seed: [u8; 32]) -> Result<Self, InviteError> {
        if !is_host(host) {
            return Err(InviteError::Form { text: excerpt(host) });
        }
        let address = Address::from_parts(host, port, &key)?;
        let seeded = address.routes().iter().map(|route| route.with_seed(&seed)).collect();
        let dial = Address::new(seeded).ok_or_else(|| InviteError::Form { text: excerpt(host) })?;
        Ok(InviteCode { host: host.to_owned(), port, key, seed, dial, old_form: true })
    }

    /// The pub's host; that of a websocket begins with `ws://` or `wss://`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The pub's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The pub's key.
    pub fn key(&self) -> FeedId {
        self.key
    }

    /// The seed of the guest's key.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// What to dial as a guest: routes with the seed in them.
    pub fn dial(&self) -> &Address {
        &self.dial
    }

    /// Where the pub is for its friends: without the seed.
    ///
    /// # Errors
    /// [`AddressError::Legacy`] if there is no way to write it.
    pub fn remote(&self) -> Result<Address, AddressError> {
        Address::from_parts(&self.host, self.port, &self.key)
    }

    /// `HOST:PORT:@KEY.ed25519~SEED`.
    fn parse_old(text: &str) -> Option<Self> {
        let (place, seed) = text.split_once('~')?;
        let seed = base64(seed)?;
        let address = Address::from_any(place).ok()?;
        let route = address.routes().first()?;
        let (host, port) = route.host_and_port()?;
        InviteCode::new(&host, port, route.key()?, seed).ok()
    }

    /// An address with a seed. The first route that leads to a pub says where it is; all with its key and a seed can be
    /// dialed.
    fn parse_multiserver(text: &str) -> Result<Self, InviteError> {
        let wrong = || InviteError::Form { text: unsecret(text) };
        let address: Address = text.parse().map_err(|_| wrong())?;
        let place = |route: &Route| {
            let [transport, shs, ..] = route.protocols() else { return None };
            let (host, port) = route.host_and_port()?;
            let fits = TRANSPORTS.contains(&transport.name()) && shs.name() == "shs" && is_host(&host);
            fits.then_some((host, port, route.key()?, route.seed()?))
        };
        let (host, port, key, seed) = address.routes().iter().find_map(place).ok_or_else(wrong)?;
        let same = |route: &&Route| route.key() == Some(key) && route.seed() == Some(seed);
        let dial = Address::new(address.routes().iter().filter(same).cloned().collect()).ok_or_else(wrong)?;
        Ok(InviteCode { host, port, key, seed, dial, old_form: false })
    }
}

impl Route {
    /// The route with the seed of a guest's key behind the key of whom to expect: `…~shs:KEY:SEED`. A route without the
    /// secret handshake comes back as it is.
    #[must_use]
    pub fn with_seed(&self, seed: &[u8; 32]) -> Route {
        let add = |protocol: &Protocol| match (protocol.name(), protocol.data().first()) {
            ("shs", Some(key)) => Protocol::new("shs", vec![key.clone(), base64_text(seed)]),
            _ => protocol.clone(),
        };
        Route::new(self.protocols().iter().map(add).collect())
    }
}

impl FromStr for InviteCode {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong { length: text.len() }.into());
        }
        let code = text.split_once('#').map_or(text, |(code, _)| code);
        InviteCode::parse_old(code).map_or_else(|| InviteCode::parse_multiserver(code), Ok)
    }
}

impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.old_form {
            return write!(f, "{}:{}:{}~{}", self.host, self.port, self.key, base64_text(&self.seed));
        }
        write!(f, "{}", self.dial)
    }
}

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InviteCode({}:{}:{})", self.host, self.port, key_text(&self.key))
    }
}

/// What of a text that should be a code can be shown: the old form's seed begins behind a `~`, the other's behind the key.
fn unsecret(text: &str) -> String {
    let shown = text.split_once('~').map_or(text, |(place, _)| place);
    excerpt(shown)
}

/// Whether ssb-ref takes it for a host: an IP address, a domain of two labels at least, or `localhost`.
fn is_host(host: &str) -> bool {
    let host = host.strip_prefix("ws://").or_else(|| host.strip_prefix("wss://")).unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok() || is_domain(host)
}

fn is_domain(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some((labels, top)) = host.rsplit_once('.') else { return false };
    let bare = top.strip_prefix("xn--").unwrap_or(top);
    let top_fits = !bare.is_empty()
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !top.bytes().all(|byte| byte.is_ascii_digit());
    let count = labels.split('.').count();
    let fits = |(at, label): (usize, &str)| {
        let underscores = at + 1 < count;
        let in_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'_' && underscores);
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(in_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.matches("--").count() == label.to_ascii_lowercase().matches("xn--").count()
    };
    host.len() <= MAX_HOST && top_fits && labels.split('.').enumerate().all(fits)
}

#[cfg(test)]
#[path = "invite_tests.rs"]
mod tests;
