//! The forms in which addresses were written before multiserver: `HOST:PORT:@KEY.ed25519`, and objects with `host`,
//! `port` and `key`. Old `pub` messages and clients still use them.
//!
//! Source: ssb-ref 2.16 `index.js` (`parseAddress`, `toMultiServerAddress`).

use sbot_feed::FeedId;

use crate::address::{Address, AddressError, MAX_ADDRESS, Route, excerpt, key_text};

/// The port that an old address means if it names none.
const DEFAULT_PORT: u16 = 8008;

impl Address {
    /// Parses whatever has been called an address: the multiserver form, or `HOST:PORT:@KEY.ed25519` (without a port:
    /// `HOST::@KEY.ed25519` means 8008).
    ///
    /// # Errors
    /// [`AddressError`], that of the multiserver form if the text has a `~`.
    pub fn from_any(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong { length: text.len() });
        }
        if text.contains('~') {
            return text.parse();
        }
        let wrong = || AddressError::Legacy { text: excerpt(text) };
        let (rest, key) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let port = if port.is_empty() { DEFAULT_PORT } else { port.parse().map_err(|_| wrong())? };
        Self::from_parts(host, port, &key.parse().map_err(|_| wrong())?)
    }

    /// The address that an object with `host`, `port` and `key` means: `net:…`, or `onion:…` for a host that ends so,
    /// or a websocket's for a host that begins with `ws:` or `wss:`.
    ///
    /// # Errors
    /// [`AddressError::Legacy`] if the host is empty or has characters that no host has.
    pub fn from_parts(host: &str, port: u16, key: &FeedId) -> Result<Self, AddressError> {
        let text = format!("{host}:{port}:{key}");
        let in_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        let bare = host.strip_prefix("ws://").or_else(|| host.strip_prefix("wss://"));
        if bare.unwrap_or(host).is_empty() || !bare.unwrap_or(host).chars().all(in_host) {
            return Err(AddressError::Legacy { text: excerpt(&text) });
        }
        let transport = match bare {
            Some(_) => host.to_owned(),
            None if host.ends_with(".onion") => format!("onion:{host}"),
            None => return Ok(Route::net(host, port, key).into()),
        };
        format!("{transport}:{port}~shs:{}", key_text(key)).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";

    #[test]
    fn old_forms_become_what_ssb_ref_makes_of_them() {
        let id = format!("@{KEY}.ed25519");
        for (old, new) in [
            (format!("::1:8008:{id}"), format!("net:::1:8008~shs:{KEY}")),
            (format!("h.com::{id}"), format!("net:h.com:8008~shs:{KEY}")),
            (format!("localhost:8009:{id}"), format!("net:localhost:8009~shs:{KEY}")),
            (format!("ws://h.com:80:{id}"), format!("ws://h.com:80~shs:{KEY}")),
            (format!("abc.onion:8008:{id}"), format!("onion:abc.onion:8008~shs:{KEY}")),
            (format!("net:h.com:8008~shs:{KEY}"), format!("net:h.com:8008~shs:{KEY}")),
        ] {
            assert_eq!(Address::from_any(&old).unwrap().to_string(), new);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "x",
            "h.com:8008",
            &format!("h.com:@{KEY}.ed25519"),
            &format!("h com:1:@{KEY}.ed25519"),
            &format!("h.com:99999:@{KEY}.ed25519"),
            &format!(":8008:@{KEY}.ed25519"),
            "h.com:8008:@short.ed25519",
        ] {
            assert!(matches!(Address::from_any(text), Err(AddressError::Legacy { .. })), "{text}");
        }
    }
}
