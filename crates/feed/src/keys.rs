//! Keys: who signs ([`Keypair`]), which network ([`NetworkKey`]), and the key that some networks sign under ([`HmacKey`]).
//!
//! What counts as a valid signature is what libsodium's `crypto_sign_verify_detached` accepts, since that is what every
//! other peer asks: a canonical S, and neither key nor R of small order or written non-canonically.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use zeroize::Zeroizing;

use crate::FeedId;

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the base64 of 32 bytes (44 characters), found {length} characters")]
pub struct KeyError {
    /// How long the text is.
    pub length: usize,
}

macro_rules! shared_key {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                bytes.map($name).ok_or(KeyError { length: text.chars().count() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&STANDARD.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

shared_key!(NetworkKey, "The key that all peers of a network share (`caps.shs`); the default is the main network's.");
shared_key!(HmacKey, "The key under which a network's messages are signed too (`caps.sign`).");

/// Key of the main network (ssb-caps).
const MAIN_NETWORK: [u8; 32] = [
    0xd4, 0xa1, 0xcb, 0x88, 0xa6, 0x6f, 0x02, 0xf8, 0xdb, 0x63, 0x5c, 0xe2, 0x64, 0x41, 0xcc, 0x5d, 0xac, 0x1b, 0x08,
    0x42, 0x0c, 0xea, 0xac, 0x23, 0x08, 0x39, 0xb7, 0x55, 0x84, 0x5a, 0x9f, 0xfb,
];

impl Default for NetworkKey {
    fn default() -> Self {
        NetworkKey(MAIN_NETWORK)
    }
}

impl HmacKey {
    /// What is signed in place of `text`: libsodium's `crypto_auth`, HMAC-SHA-512 cut to 32 bytes.
    pub(crate) fn authenticate(&self, text: &[u8]) -> [u8; 32] {
        let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("any length"));
        mac.update(text);
        let full = mac.finalize().into_bytes();
        let mut cut = [0; 32];
        cut.copy_from_slice(&full[..32]);
        cut
    }
}

/// An ed25519 keypair: an identity.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// A new identity, from the system's randomness.
    ///
    /// # Panics
    /// If the system has no randomness to give: nothing safe can be done without it.
    pub fn generate() -> Keypair {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).unwrap_or_else(|error| panic!("no randomness: {error}"));
        Keypair::from_seed(*seed)
    }

    /// The identity that a seed makes: the first half of its secret key.
    pub fn from_seed(seed: [u8; 32]) -> Keypair {
        Keypair(SigningKey::from_bytes(&seed))
    }

    /// The identity with this libsodium secret key, seed and public key; `None` if the halves don't belong together.
    pub fn from_secret_bytes(bytes: &[u8; 64]) -> Option<Keypair> {
        SigningKey::from_keypair_bytes(bytes).ok().map(Keypair)
    }

    /// The feed that this key signs.
    pub fn id(&self) -> FeedId {
        FeedId(self.0.verifying_key().to_bytes())
    }

    /// The libsodium secret key: seed and public key.
    pub fn secret_bytes(&self) -> [u8; 64] {
        self.0.to_keypair_bytes()
    }

    /// Signs `text`.
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(text).to_bytes()
    }

    /// The curve25519 secret of this key (libsodium's `crypto_sign_ed25519_sk_to_curve25519`).
    pub fn curve_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_scalar_bytes())
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({}, …)", self.id())
    }
}

impl FeedId {
    /// The curve25519 public key of this feed (libsodium's `crypto_sign_ed25519_pk_to_curve25519`); `None` where libsodium
    /// refuses: for no point, one of small order, or one outside the main subgroup.
    pub fn curve_public(&self) -> Option<[u8; 32]> {
        if !is_sound_key(&self.0) {
            return None;
        }
        let key = VerifyingKey::from_bytes(&self.0).ok()?;
        key.to_edwards().is_torsion_free().then(|| key.to_montgomery().to_bytes())
    }
}

/// Whether `signature` is `author`'s over `text`, as libsodium says.
pub fn verify(author: &FeedId, text: &[u8], signature: &[u8; 64]) -> bool {
    is_sound_key(&author.0)
        && is_sound_signature(signature)
        && VerifyingKey::from_bytes(&author.0)
            .is_ok_and(|key| key.verify_strict(text, &Signature::from_bytes(signature)).is_ok())
}

/// Neither of small order nor written non-canonically.
pub(crate) fn is_sound_key(key: &[u8; 32]) -> bool {
    is_canonical(key) && !has_small_order(key)
}

/// Whether R is neither of small order nor non-canonical, and S below the group's order.
pub(crate) fn is_sound_signature(signature: &[u8; 64]) -> bool {
    let (r, s) = signature.split_at(32);
    let (Ok(r), Ok(s)) = (<&[u8; 32]>::try_from(r), <&[u8; 32]>::try_from(s)) else { return false };
    is_sound_key(r) && s.iter().rev().lt(ORDER.iter().rev())
}

/// The order of the main subgroup, 2²⁵² + 27742317777372353535851937790883648493, little-endian.
pub(crate) const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Whether y, without its sign bit, is below 2²⁵⁵ − 19.
fn is_canonical(point: &[u8; 32]) -> bool {
    let high = point[31] & 0x7f == 0x7f && point[1..31].iter().all(|byte| *byte == 0xff);
    !(high && point[0] >= 0xed)
}

/// Whether y is that of a point of order 1, 2, 4 or 8.
fn has_small_order(point: &[u8; 32]) -> bool {
    static SMALL: LazyLock<[[u8; 32]; 8]> = LazyLock::new(|| {
        EIGHT_TORSION.map(|point| {
            let mut y = point.compress().to_bytes();
            y[31] &= 0x7f;
            y
        })
    });
    let mut y = *point;
    y[31] &= 0x7f;
    SMALL.contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_network_is_the_main_one() {
        assert_eq!(NetworkKey::default().to_string(), "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=");
    }

    #[test]
    fn a_signature_holds_for_its_text_alone() {
        let keys = Keypair::from_seed([7; 32]);
        let signature = keys.sign(b"text");
        assert!(verify(&keys.id(), b"text", &signature));
        assert!(!verify(&keys.id(), b"test", &signature));
        assert!(!verify(&Keypair::from_seed([8; 32]).id(), b"text", &signature));
    }

    #[test]
    fn no_bytes_make_verifying_panic() {
        for byte in 0..=255 {
            verify(&FeedId([byte; 32]), b"", &[byte; 64]);
        }
    }
}
