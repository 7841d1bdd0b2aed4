//! The primitives as libsodium has them.
//!
//! All of these functions read and write as many bytes as their documentation says and keep nothing. What they are given
//! here are arrays of just those lengths, or a slice with its own length.
#![expect(unsafe_code, reason = "libsodium is written in C; docs/decisions/0008-box-stream-cipher.md")]

use std::ptr::null;
use std::sync::Once;

use libsodium_sys::{
    crypto_core_hsalsa20, crypto_onetimeauth, crypto_onetimeauth_verify, crypto_stream_salsa20_xor, sodium_init,
};

use super::{PREFIX, TAG, TAG_KEY};

/// Bytes of a block of Salsa20's.
const BLOCK: usize = 64;
/// Bytes of the blocks that libsodium makes at once. It takes as long for the second one of fewer.
const RUN: usize = 4 * BLOCK;

/// HSalsa20: the key of all nonces that begin with `prefix`.
pub(super) fn derive(key: &[u8; 32], prefix: &[u8; PREFIX]) -> [u8; 32] {
    prepare();
    let mut derived = [0; 32];
    // SAFETY: 32 bytes out, 16 and 32 in; no constant means the usual one.
    unsafe { crypto_core_hsalsa20(derived.as_mut_ptr(), prefix.as_ptr(), key.as_ptr(), null()) };
    derived
}

/// How many bytes [`apply`] is fast for, for which so many are needed.
pub(super) fn whole(length: usize) -> usize {
    if length % RUN <= BLOCK { length.next_multiple_of(BLOCK) } else { length.next_multiple_of(RUN) }
}

/// Salsa20: its key stream upon `bytes`.
pub(super) fn apply(key: &[u8; 32], nonce: &[u8; 8], bytes: &mut [u8]) {
    let (at, length) = (bytes.as_mut_ptr(), bytes.len() as u64);
    // SAFETY: as many bytes in and out as the slice has, which may be the same ones, and 8 and 32 in.
    unsafe { crypto_stream_salsa20_xor(at, at, length, nonce.as_ptr(), key.as_ptr()) };
}

/// Poly1305.
pub(super) fn authenticate(key: &[u8; TAG_KEY], body: &[u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    // SAFETY: 16 bytes out, as many as the slice has and 32 in.
    unsafe { crypto_onetimeauth(tag.as_mut_ptr(), body.as_ptr(), body.len() as u64, key.as_ptr()) };
    tag
}

/// Whether `tag` is Poly1305's, in a time that doesn't tell how much of it is.
pub(super) fn is_authentic(key: &[u8; TAG_KEY], body: &[u8], tag: &[u8; TAG]) -> bool {
    // SAFETY: 16 bytes, as many as the slice has and 32 in.
    unsafe { crypto_onetimeauth_verify(tag.as_ptr(), body.as_ptr(), body.len() as u64, key.as_ptr()) == 0 }
}

/// Has libsodium find out what the processor can do. Every cipher derives a key first.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: it may be called at any time. Should it fail, the functions here work as well, only slower.
        unsafe { sodium_init() };
    });
}
