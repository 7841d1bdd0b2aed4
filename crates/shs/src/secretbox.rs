//! XSalsa20-Poly1305 as NaCl's `crypto_secretbox`, for a run of boxes whose nonces count up.
//!
//! The three primitives are a library's: libsodium's with the cargo feature `libsodium`, else those of the crates salsa20
//! and poly1305. They are put together here, because boxes of 4096 bytes and their headers of 18 are what
//! `crypto_secretbox` of either is slow at: HSalsa20's key stays the same for 2^64 nonces, and the cipher is fast on
//! whole runs of blocks only. `docs/decisions/0008-box-stream-cipher.md` has the figures.
//!
//! Source: NaCl `crypto_secretbox/xsalsa20poly1305/ref`; pull-box-stream 1.0 `index.js` for the nonces.

use std::ops::Range;

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
/// Bytes before a body that [`Cipher::seal_behind`] overwrites.
pub(crate) const BEFORE: usize = TAG_KEY;
/// Bytes of a nonce that go into the key of a run of boxes.
const PREFIX: usize = 16;
/// Room for the key stream of a box, with what makes whole runs of blocks of it.
const ROOM: usize = MAX + 256;
/// The same for a body that isn't longer than this: a header's, for which zeros of [`ROOM`] would take longer than the rest.
const SMALL: usize = 32;
/// A body of [`MAX`] bytes with room for the tag's key before it: what the cipher runs over as a whole.
const FULL: usize = TAG_KEY + MAX;

/// The start of a key stream; what keys the tag is wiped when dropped.
struct Stream<const ROOM: usize> {
    bytes: [u8; ROOM],
}

impl<const ROOM: usize> Drop for Stream<ROOM> {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes[..TAG_KEY]);
    }
}

impl<const ROOM: usize> Stream<ROOM> {
    fn tag_key(&self) -> &[u8; TAG_KEY] {
        self.bytes.first_chunk().expect("the room is larger than a key")
    }

    fn seal(&self, body: &mut [u8]) -> [u8; TAG] {
        self.encrypt(body);
        primitives::authenticate(self.tag_key(), body)
    }

    fn open(&self, body: &mut [u8], tag: &[u8; TAG]) -> bool {
        let fits = primitives::is_authentic(self.tag_key(), body, tag);
        if fits {
            self.encrypt(body);
        }
        fits
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
        match body.len() {
            ..=SMALL => self.stream::<{ TAG_KEY + SMALL }>(nonce, body.len()).seal(body),
            _ => self.stream::<ROOM>(nonce, body.len()).seal(body),
        }
    }

    /// As [`Cipher::seal`], for the body behind the first [`BEFORE`] bytes of `room`, which are overwritten. A body of
    /// [`MAX`] bytes is faster so: the cipher runs over it with the tag's key, and there is no key stream to be stored.
    pub(crate) fn seal_behind(&mut self, nonce: &[u8; NONCE], room: &mut [u8]) -> [u8; TAG] {
        let Ok(full) = <&mut [u8; FULL]>::try_from(&mut *room) else { return self.seal(nonce, &mut room[BEFORE..]) };
        full[..BEFORE].fill(0);
        let (key, rest) = self.key(nonce);
        primitives::apply(key, &rest, full);
        let (tag_key, body) = full.split_at_mut(BEFORE);
        let tag_key = Zeroizing::new(<[u8; TAG_KEY]>::try_from(tag_key).expect("as long as a key"));
        primitives::authenticate(&tag_key, body)
    }

    /// Decrypts `body`, of at most [`MAX`] bytes, in place if `tag` is its tag; else leaves it alone and returns false.
    #[must_use]
    pub(crate) fn open(&mut self, nonce: &[u8; NONCE], body: &mut [u8], tag: &[u8; TAG]) -> bool {
        match body.len() {
            ..=SMALL => self.stream::<{ TAG_KEY + SMALL }>(nonce, body.len()).open(body, tag),
            _ => self.stream::<ROOM>(nonce, body.len()).open(body, tag),
        }
    }

    /// As [`Cipher::open`], for the body at `from` in `room`, of which the plain text goes to `to`, at or before it.
    #[must_use]
    pub(crate) fn open_to(
        &mut self,
        nonce: &[u8; NONCE],
        room: &mut [u8],
        from: Range<usize>,
        to: usize,
        tag: &[u8; TAG],
    ) -> bool {
        let length = from.len();
        if length != MAX {
            let fits = self.open(nonce, &mut room[from.clone()], tag);
            if fits {
                room.copy_within(from, to);
            }
            return fits;
        }
        let mut plain = Stream { bytes: [0; FULL] };
        plain.bytes[TAG_KEY..].copy_from_slice(&room[from.clone()]);
        let (key, rest) = self.key(nonce);
        primitives::apply(key, &rest, &mut plain.bytes);
        let fits = primitives::is_authentic(plain.tag_key(), &room[from], tag);
        if fits {
            room[to..to + length].copy_from_slice(&plain.bytes[TAG_KEY..]);
        }
        fits
    }

    /// The key stream of a box.
    fn stream<const ROOM: usize>(&mut self, nonce: &[u8; NONCE], length: usize) -> Stream<ROOM> {
        assert!(length <= MAX, "a box of {length} bytes");
        let (key, rest) = self.key(nonce);
        let mut stream = Stream { bytes: [0; ROOM] };
        primitives::apply(key, &rest, &mut stream.bytes[..primitives::whole(TAG_KEY + length)]);
        stream
    }

    /// What Salsa20 takes for this nonce.
    fn key(&mut self, nonce: &[u8; NONCE]) -> (&[u8; 32], [u8; NONCE - PREFIX]) {
        let (prefix, rest) = split(nonce);
        if self.derived.0 != prefix {
            self.derived = (prefix, Zeroizing::new(primitives::derive(&self.key, &prefix)));
        }
        (&self.derived.1, rest)
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

    /// Bodies of all lengths, and of those at which another way is taken.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![0..=MAX, Just(MAX), Just(MAX - 1), SMALL - 1..SMALL + 2];
        length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn boxes_are_those_of_crypto_secretbox(
            key: [u8; 32], nonces in prop::collection::vec(any::<[u8; NONCE]>(), 1..4), body in bodies(), gap in 0..300usize,
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

                    let mut room = [&[5; BEFORE][..], &body].concat();
                    prop_assert_eq!(cipher.seal_behind(&nonce, &mut room), tag);
                    prop_assert_eq!(&room[BEFORE..], &theirs);
                    let mut room = [&vec![5; gap][..], &theirs, &[6; 10]].concat();
                    prop_assert!(cipher.open_to(&nonce, &mut room, gap..gap + body.len(), 0, &tag));
                    prop_assert_eq!(&room[..body.len()], &body);
                    prop_assert_eq!(&room[gap + body.len()..], [6; 10]);
                }
            }
        }

        #[test]
        fn what_was_changed_is_refused_and_left_alone(
            key: [u8; 32], nonce: [u8; NONCE], body in bodies(), at: prop::sample::Index, change in 1u8..,
        ) {
            let mut cipher = Cipher::new(&key, &nonce);
            let mut sealed = body.clone();
            let tag = cipher.seal(&nonce, &mut sealed);
            let right = [&[5; 40][..], &sealed].concat();
            let (mut room, mut wrong) = (right.clone(), tag);
            match at.index(TAG + sealed.len()) {
                at @ ..TAG => wrong[at] ^= change,
                at => room[40 + at - TAG] ^= change,
            }
            let before = room.clone();
            prop_assert!(!cipher.open(&nonce, &mut room[40..], &wrong));
            prop_assert!(!cipher.open_to(&nonce, &mut room, 40..40 + sealed.len(), 0, &wrong));
            prop_assert_eq!(room, before);
            let mut room = right;
            prop_assert!(cipher.open(&nonce, &mut room[40..], &tag));
            prop_assert_eq!(&room[40..], &body);
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
            sodium::apply(&key, &nonce, &mut one[..sodium::whole(TAG_KEY + length)]);
            pure::apply(&key, &nonce, &mut other[..pure::whole(TAG_KEY + length)]);
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
