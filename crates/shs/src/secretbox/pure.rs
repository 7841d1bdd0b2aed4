//! The primitives in Rust alone, of the crates salsa20 and poly1305.

use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use salsa20::Salsa20;
use salsa20::cipher::consts::U10;
use salsa20::cipher::{KeyIvInit, StreamCipher};

use super::{PREFIX, TAG, TAG_KEY};

/// HSalsa20: the key of all nonces that begin with `prefix`.
pub(super) fn derive(key: &[u8; 32], prefix: &[u8; PREFIX]) -> [u8; 32] {
    salsa20::hsalsa::<U10>(key.into(), prefix.into()).into()
}

/// How many bytes [`apply`] is fast for, for which so many are needed.
pub(super) fn whole(length: usize) -> usize {
    length
}

/// Salsa20: its key stream upon `bytes`.
pub(super) fn apply(key: &[u8; 32], nonce: &[u8; 8], bytes: &mut [u8]) {
    Salsa20::new(key.into(), nonce.into()).apply_keystream(bytes);
}

/// Poly1305.
pub(super) fn authenticate(key: &[u8; TAG_KEY], body: &[u8]) -> [u8; TAG] {
    Poly1305::new(key.into()).compute_unpadded(body).into()
}

/// Whether `tag` is Poly1305's, in a time that doesn't tell how much of it is.
pub(super) fn is_authentic(key: &[u8; TAG_KEY], body: &[u8], tag: &[u8; TAG]) -> bool {
    subtle::ConstantTimeEq::ct_eq(&authenticate(key, body)[..], &tag[..]).into()
}
