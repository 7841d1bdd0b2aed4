//! What things are called at a hub.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sbot_feed::{FeedId, NetworkKey};
use sha2::Sha256;

/// Names the protocol and its version: peers that speak another one don't meet.
const DOMAIN: &str = "sbot-rtc-1";

/// The names of a network and a peer at every hub.
///
/// ```text
/// APP      = "sbot-rtc-1-" + the first 16 bytes of HMAC-SHA-256(network key, "sbot-rtc-1") in hexadecimal digits
/// announce = where everyone says that it is there
/// peer-HEX = the letter box of the peer with this public key, in hexadecimal digits
/// ```
/// So networks don't mix, and a hub can't tell which one it serves unless it has the network key too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubNames {
    app: String,
}

impl HubNames {
    /// Where everyone says that it is there.
    pub const ANNOUNCE: &str = "announce";

    /// The names in this network.
    pub fn new(network: &NetworkKey) -> Self {
        // A MAC of this kind takes a key of any length.
        let mac =
            Hmac::<Sha256>::new_from_slice(&network.0).map(|mac| mac.chain_update(DOMAIN).finalize().into_bytes());
        let digest = mac.map(|mac| hex(&mac[..16])).unwrap_or_default();
        HubNames { app: format!("{DOMAIN}-{digest}") }
    }

    /// The app's name.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The letter box of a peer.
    pub fn letter_box(&self, peer: &FeedId) -> String {
        format!("peer-{}", hex(&peer.0))
    }

    /// The path at which to listen to a channel, or to publish in it.
    pub fn path(&self, channel: &str) -> String {
        format!("/v1/{}/{channel}", self.app)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_network_and_hide_its_key() {
        // printf sbot-rtc-1 | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07 | cut -c-32
        let names = HubNames::new(&NetworkKey([7; 32]));
        assert_eq!(names.app(), "sbot-rtc-1-9f45f15ee4b7d1d6092e4da159cadb01");
        assert_ne!(names, HubNames::new(&NetworkKey([8; 32])));
        let own = FeedId([0xab; 32]);
        assert_eq!(names.path(&names.letter_box(&own)), format!("/v1/{}/peer-{}", names.app(), "ab".repeat(32)));
    }
}
