//! The announcements of ssb-lan: `{address}` in a secret box under the network key, and behind it the announcing peer's
//! signature. Nobody but peers of the same network can read them, and nobody can make one up; who has heard one can
//! send it again, though, so that it too is no more than a claim.
//!
//! Source: ssb-lan 1.2 `lib/index.js` (`readNormal`, `writeNormal`), ssb-keys 8 `index.js` (`secretBox`: the nonce is
//! the key's beginning; `signObj`).

use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use sbot_feed::{FeedId, Keypair, NetworkKey, verify};
use sbot_multiserver::{Address, AddressError};
use serde::{Deserialize, Serialize};

use crate::lan::{MAX_PAYLOAD, announced};
use crate::sighting::{Origin, Refused, Sighting};

/// UDP port of these announcements.
pub const PORT: u16 = 26_830;
/// Bytes of a signature.
const SIGNATURE: usize = 64;

#[derive(Serialize, Deserialize)]
struct Body {
    address: String,
}

/// What is signed: the body as `JSON.stringify(body, null, 2)` prints it.
fn signed(address: &str) -> Vec<u8> {
    // Texts can always be printed.
    let text = serde_json::to_string(address).unwrap_or_default();
    format!("{{\n  \"address\": {text}\n}}").into_bytes()
}

fn cipher(network: &NetworkKey) -> (XSalsa20Poly1305, Nonce) {
    let mut nonce = Nonce::default();
    nonce.copy_from_slice(&network.0[..24]);
    (XSalsa20Poly1305::new((&network.0).into()), nonce)
}

/// Reads a payload; `None` for our own, which comes back to us.
///
/// # Errors
/// [`Refused`] if it is of another network, has no address with a key, isn't signed with that key, or is too long.
pub fn parse(payload: &[u8], network: &NetworkKey, own: &FeedId) -> Result<Option<Sighting>, Refused> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Refused::Address(AddressError::TooLong { length: payload.len() }));
    }
    let (sealed, signature) = payload.split_last_chunk::<SIGNATURE>().ok_or(Refused::OtherNetwork)?;
    let (cipher, nonce) = cipher(network);
    let plain = cipher.decrypt(&nonce, sealed).map_err(|_| Refused::OtherNetwork)?;
    let Ok(Body { address: text }) = serde_json::from_slice(&plain) else { return Err(Refused::NoAddress) };
    let sighting = Sighting::new(Address::from_any(&text)?, Origin::Local)?;
    if sighting.peer == *own {
        return Ok(None);
    }
    if !verify(&sighting.peer, &signed(&text), signature) {
        return Err(Refused::Signature { address: text });
    }
    Ok(Some(sighting))
}

/// Makes the payload that announces us at `address`; `None` as for [`crate::lan::announce`].
pub fn announce(address: &Address, network: &NetworkKey, keys: &Keypair) -> Option<Vec<u8>> {
    let room = MAX_PAYLOAD - SIGNATURE - r#"{"address":""}"#.len() - 16;
    let address = announced(address, room)?;
    let signature = keys.sign(&signed(&address));
    let plain = serde_json::to_vec(&Body { address }).ok()?;
    let (cipher, nonce) = cipher(network);
    let mut payload = cipher.encrypt(&nonce, &*plain).ok()?;
    payload.extend_from_slice(&signature);
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sbot_multiserver::Route;

    const NETWORK: NetworkKey = NetworkKey([7; 32]);
    const OWN: FeedId = FeedId([1; 32]);

    fn payload(keys: &Keypair) -> Vec<u8> {
        announce(&Route::net("192.168.1.5", 8008, &keys.id()).into(), &NETWORK, keys).unwrap()
    }

    #[test]
    fn what_we_announce_is_understood_and_our_own_is_no_news() {
        let keys = Keypair::from_seed([3; 32]);
        let sighting = parse(&payload(&keys), &NETWORK, &OWN).unwrap().unwrap();
        assert_eq!((sighting.peer, sighting.origin), (keys.id(), Origin::Local));
        assert_eq!(sighting.address, Route::net("192.168.1.5", 8008, &keys.id()).into());
        assert_eq!(parse(&payload(&keys), &NETWORK, &keys.id()), Ok(None));
    }

    #[test]
    fn other_networks_and_other_signers_are_refused() {
        let keys = Keypair::from_seed([3; 32]);
        assert_eq!(parse(&payload(&keys), &NetworkKey([8; 32]), &OWN), Err(Refused::OtherNetwork));
        let forged =
            announce(&Route::net("192.168.1.5", 8008, &keys.id()).into(), &NETWORK, &Keypair::from_seed([4; 32]));
        assert!(matches!(parse(&forged.unwrap(), &NETWORK, &OWN), Err(Refused::Signature { .. })));
        let (cipher, nonce) = cipher(&NETWORK);
        for plain in [&b"no JSON"[..], b"{}", b"[]"] {
            let mut payload = cipher.encrypt(&nonce, plain).unwrap();
            payload.extend_from_slice(&[0; SIGNATURE]);
            assert_eq!(parse(&payload, &NETWORK, &OWN), Err(Refused::NoAddress));
        }
    }

    proptest! {
        #[test]
        fn any_packet_is_read_or_refused_without_a_panic(packet in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = parse(&packet, &NETWORK, &OWN);
        }

        #[test]
        fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), change in 1u8..) {
            let mut payload = payload(&Keypair::from_seed([3; 32]));
            let at = at.index(payload.len());
            payload[at] ^= change;
            prop_assert!(parse(&payload, &NETWORK, &OWN).is_err());
        }
    }
}
