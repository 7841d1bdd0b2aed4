//! XSalsa20-Poly1305 as NaCl's `crypto_secretbox`, for a run of boxes whose nonces count up.
//!
//! The three primitives are a library's: libsodium's with the cargo feature `libsodium`, else those of the crates salsa20
//! and poly1305. They are put together here, because boxes of 4096 bytes and their headers of 18 are what
//! `crypto_secretbox` of either is slow at: HSalsa20's key stays the same for 2^64 nonces, and the cipher is fast on
//! whole runs of blocks only. `docs/decisions/0008-box-stream-cipher.md` has the figures.
//!
//! Source: NaCl `crypto_secretbox/xsalsa20poly1305/ref`; pull-box-stream 1.0 `index.js` for the nonces.

use zeroize::Zeroizing;

#[cfg(any(test, not(feature = "libsodium")))]
mod pure;
#[cfg(feature = "libsodium")]
mod sodium;

#[cfg(not(feature = "libsodium"))]
use pure as primitives;
#[cfg(feature = "libsodium")]
use sodium as primitives;

/// Bytes of the tag that authenticates a box.
pub(crate) const TAG: usize = 16;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = 24;
/// Most bytes of a box.
pub(crate) const MAX: usize = 4096;

/// Bytes at the start of the key stream that key the tag; those behind them encrypt.
const TAG_KEY: usize = 32;
/// Bytes of a nonce that go into the key of a run of boxes.
const PREFIX: usize = 16;
/// Room for a key stream, with what makes whole runs of blocks of it.
const ROOM: usize = MAX + 256;

/// The start of a key stream; what keys the tag is wiped when dropped.
struct Stream {
    bytes: [u8; ROOM],
}

impl Drop for Stream {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes[..TAG_KEY]);
    }
}

impl Stream {
    fn tag_key(&self) -> &[u8; TAG_KEY] {
        self.bytes.first_chunk().expect("the room is larger than a key")
    }

    fn encrypt(&self, body: &mut [u8]) {
        for (byte, key) in body.iter_mut().zip(&self.bytes[TAG_KEY..]) {
            *byte ^= key;
        }
    }
}

/// A key, wiped when dropped, and the nonce it has come to.
pub(crate) struct Cipher {
    key: Zeroizing<[u8; 32]>,
    nonce: [u8; NONCE],
    /// HSalsa20's key for nonces that begin as this one.
    derived: ([u8; PREFIX], Zeroizing<[u8; 32]>),
}

impl Cipher {
    pub(crate) fn new(key: &[u8; 32], nonce: &[u8; NONCE]) -> Self {
        let (prefix, _) = split(nonce);
        let derived = (prefix, Zeroizing::new(primitives::derive(key, &prefix)));
        Cipher { key: Zeroizing::new(*key), nonce: *nonce, derived }
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

    /// Encrypts `body`, of at most [`MAX`] bytes, in place and returns its tag.
    pub(crate) fn seal(&mut self, nonce: &[u8; NONCE], body: &mut [u8]) -> [u8; TAG] {
        let stream = self.stream(nonce, body.len());
        stream.encrypt(body);
        primitives::authenticate(stream.tag_key(), body)
    }

    /// Decrypts `body`, of at most [`MAX`] bytes, in place if `tag` is its tag; else leaves it alone and returns false.
    #[must_use]
    pub(crate) fn open(&mut self, nonce: &[u8; NONCE], body: &mut [u8], tag: &[u8; TAG]) -> bool {
        let stream = self.stream(nonce, body.len());
        let fits = primitives::is_authentic(stream.tag_key(), body, tag);
        if fits {
            stream.encrypt(body);
        }
        fits
    }

    /// The key stream of a box.
    fn stream(&mut self, nonce: &[u8; NONCE], length: usize) -> Stream {
        assert!(length <= MAX, "a box of {length} bytes");
        let (prefix, rest) = split(nonce);
        if self.derived.0 != prefix {
            self.derived = (prefix, Zeroizing::new(primitives::derive(&self.key, &prefix)));
        }
        let mut stream = Stream { bytes: [0; ROOM] };
        primitives::key_stream(&self.derived.1, &rest, &mut stream.bytes, TAG_KEY + length);
        stream
    }
}

/// What HSalsa20 takes of a nonce, and what Salsa20 does.
fn split(nonce: &[u8; NONCE]) -> ([u8; PREFIX], [u8; NONCE - PREFIX]) {
    let (mut prefix, mut rest) = ([0; PREFIX], [0; NONCE - PREFIX]);
    prefix.copy_from_slice(&nonce[..PREFIX]);
    rest.copy_from_slice(&nonce[PREFIX..]);
    (prefix, rest)
}

/// `crypto_secretbox_easy` with a nonce of zeros, for keys that are used once: tag, then the encrypted body.
pub(crate) fn seal_once<const PLAIN: usize, const SEALED: usize>(key: &[u8; 32], plain: &[u8; PLAIN]) -> [u8; SEALED] {
    const { assert!(SEALED == PLAIN + TAG && PLAIN <= MAX) }
    let mut sealed = [0; SEALED];
    let (tag, body) = sealed.split_at_mut(TAG);
    body.copy_from_slice(plain);
    tag.copy_from_slice(&Cipher::new(key, &[0; NONCE]).seal(&[0; NONCE], body));
    sealed
}

/// Opens what [`seal_once`] made; `None` if it was made with another key or changed since.
pub(crate) fn open_once<const SEALED: usize, const PLAIN: usize>(
    key: &[u8; 32],
    sealed: &[u8; SEALED],
) -> Option<[u8; PLAIN]> {
    const { assert!(SEALED == PLAIN + TAG && PLAIN <= MAX) }
    let (mut tag, mut plain) = ([0; TAG], [0; PLAIN]);
    tag.copy_from_slice(&sealed[..TAG]);
    plain.copy_from_slice(&sealed[TAG..]);
    Cipher::new(key, &[0; NONCE]).open(&[0; NONCE], &mut plain, &tag).then_some(plain)
}

#[cfg(test)]
mod tests {
    use crypto_secretbox::XSalsa20Poly1305;
    use crypto_secretbox::aead::{AeadInPlace, KeyInit};
    use proptest::prelude::*;

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
        let mut cipher = Cipher::new(&[9; 32], &[1; NONCE]);
        let mut body = [7; 100];
        let nonce = cipher.nonce();
        let tag = cipher.seal(&nonce, &mut body);
        body[99] ^= 1;
        let before = body;
        assert!(!cipher.open(&nonce, &mut body, &tag));
        assert_eq!(body, before);
        body[99] ^= 1;
        assert!(cipher.open(&nonce, &mut body, &tag));
        assert_eq!(body, [7; 100]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn boxes_are_those_of_crypto_secretbox(
            key: [u8; 32], nonces in prop::collection::vec(any::<[u8; NONCE]>(), 1..4), body in prop::collection::vec(any::<u8>(), 0..=MAX),
        ) {
            let reference = XSalsa20Poly1305::new(&key.into());
            let mut cipher = Cipher::new(&key, &nonces[0]);
            for mut nonce in nonces {
                // With another key of HSalsa20's, and with the same again.
                for last in 0..2 {
                    nonce[NONCE - 1] = last;
                    let (mut ours, mut theirs) = (body.clone(), body.clone());
                    let tag = cipher.seal(&nonce, &mut ours);
                    let other = reference.encrypt_in_place_detached(&nonce.into(), &[], &mut theirs).unwrap();
                    prop_assert_eq!(&tag[..], &other[..]);
                    prop_assert_eq!(&ours, &theirs);
                    prop_assert!(cipher.open(&nonce, &mut ours, &tag));
                    prop_assert_eq!(&ours, &body);
                }
            }
        }
    }

    #[cfg(feature = "libsodium")]
    proptest! {
        #[test]
        fn both_libraries_agree(
            key: [u8; 32], prefix: [u8; PREFIX], nonce: [u8; 8], length in 0..=MAX, body in prop::collection::vec(any::<u8>(), 0..=MAX),
        ) {
            prop_assert_eq!(sodium::derive(&key, &prefix), pure::derive(&key, &prefix));
            let (mut one, mut other) = ([0; ROOM], [0; ROOM]);
            sodium::key_stream(&key, &nonce, &mut one, TAG_KEY + length);
            pure::key_stream(&key, &nonce, &mut other, TAG_KEY + length);
            prop_assert_eq!(&one[..TAG_KEY + length], &other[..TAG_KEY + length]);
            let tag = sodium::authenticate(&key, &body);
            prop_assert_eq!(tag, pure::authenticate(&key, &body));
            let mut wrong = tag;
            wrong[length % TAG] ^= 1;
            prop_assert!(sodium::is_authentic(&key, &body, &tag) && pure::is_authentic(&key, &body, &tag));
            prop_assert!(!sodium::is_authentic(&key, &body, &wrong) && !pure::is_authentic(&key, &body, &wrong));
        }
    }
}
