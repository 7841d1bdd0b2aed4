//! XSalsa20-Poly1305 as NaCl's `crypto_secretbox`, for a run of boxes whose nonces count up.
//!
//! The cipher is that of the crate crypto_secretbox, and no other module knows it. Should profiles of blob transfer ask
//! for a vectorised cipher, libsodium can be put here; `docs/decisions/0008-box-stream-cipher.md` has the figures.
//!
//! Source: NaCl `crypto_secretbox`; pull-box-stream 1.0 `index.js` for the nonces.

use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{AeadInPlace, KeyInit};

/// Bytes of the tag that authenticates a box.
pub(crate) const TAG: usize = 16;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = 24;

/// A key, wiped when dropped, and the nonce it has come to.
pub(crate) struct Cipher {
    cipher: XSalsa20Poly1305,
    nonce: [u8; NONCE],
}

impl Cipher {
    pub(crate) fn new(key: &[u8; 32], nonce: &[u8; NONCE]) -> Self {
        Cipher { cipher: XSalsa20Poly1305::new(key.into()), nonce: *nonce }
    }

    /// The nonce of the next box.
    pub(crate) fn nonce(&self) -> [u8; NONCE] {
        self.nonce
    }

    /// Counts the nonce up by one, big-endian over all its bytes.
    pub(crate) fn step(&mut self) {
        for byte in self.nonce.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }

    /// Encrypts `body` in place and returns its tag.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE], body: &mut [u8]) -> [u8; TAG] {
        let tag = self.cipher.encrypt_in_place_detached(nonce.into(), &[], body);
        // The crate refuses associated data, of which there is none, and nothing else.
        tag.expect("a box without associated data can be sealed").into()
    }

    /// Decrypts `body` in place if `tag` is its tag; else leaves it alone and returns false.
    #[must_use]
    pub(crate) fn open(&self, nonce: &[u8; NONCE], body: &mut [u8], tag: &[u8; TAG]) -> bool {
        self.cipher.decrypt_in_place_detached(nonce.into(), &[], body, tag.into()).is_ok()
    }
}

/// `crypto_secretbox_easy` with a nonce of zeros, for keys that are used once: tag, then the encrypted body.
pub(crate) fn seal_once<const PLAIN: usize, const SEALED: usize>(key: &[u8; 32], plain: &[u8; PLAIN]) -> [u8; SEALED] {
    const { assert!(SEALED == PLAIN + TAG) }
    let mut sealed = [0; SEALED];
    let (tag, body) = sealed.split_at_mut(TAG);
    body.copy_from_slice(plain);
    let cipher = Cipher::new(key, &[0; NONCE]);
    tag.copy_from_slice(&cipher.seal(&cipher.nonce, body));
    sealed
}

/// Opens what [`seal_once`] made; `None` if it was made with another key or changed since.
pub(crate) fn open_once<const SEALED: usize, const PLAIN: usize>(
    key: &[u8; 32],
    sealed: &[u8; SEALED],
) -> Option<[u8; PLAIN]> {
    const { assert!(SEALED == PLAIN + TAG) }
    let (mut tag, mut plain) = ([0; TAG], [0; PLAIN]);
    tag.copy_from_slice(&sealed[..TAG]);
    plain.copy_from_slice(&sealed[TAG..]);
    let cipher = Cipher::new(key, &[0; NONCE]);
    cipher.open(&cipher.nonce, &mut plain, &tag).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_counts_over_all_its_bytes() {
        let nonce = |ends: [u8; 2], fill: u8| {
            let mut nonce = [fill; NONCE];
            nonce[..22].fill(ends[0]);
            nonce[23] = ends[1];
            nonce
        };
        for (start, next) in [
            (nonce([0, 0], 0), nonce([0, 1], 0)),
            (nonce([7, 0xff], 5), nonce([7, 0], 6)),
            (nonce([0xff, 0xff], 0xff), nonce([0, 0], 0)),
        ] {
            let mut cipher = Cipher::new(&[9; 32], &start);
            cipher.step();
            assert_eq!(cipher.nonce(), next);
        }
    }

    #[test]
    fn a_changed_box_is_refused_and_left_alone() {
        let cipher = Cipher::new(&[9; 32], &[1; NONCE]);
        let mut body = [7; 100];
        let tag = cipher.seal(&cipher.nonce(), &mut body);
        body[99] ^= 1;
        let before = body;
        assert!(!cipher.open(&cipher.nonce(), &mut body, &tag));
        assert_eq!(body, before);
        body[99] ^= 1;
        assert!(cipher.open(&cipher.nonce(), &mut body, &tag));
        assert_eq!(body, [7; 100]);
    }
}
