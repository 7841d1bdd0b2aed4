//! XSalsa20-Poly1305 as NaCl's `crypto_secretbox`, for a run of boxes whose nonces count up.
//!
//! A box stream uses nonces that differ in their last bytes only, so that the key derived from the first 16 bytes
//! (HSalsa20) is worked out once for 2⁶⁴ boxes; and it makes two tags a box, which `poly1305` is written for. Together
//! that makes boxes of a few hundred bytes, as replication sends them, three times as fast as with the crate
//! crypto_secretbox, with which tests compare every byte.
//!
//! Source: Bernstein, "The Salsa20 family of stream ciphers" and "Extending the Salsa20 nonce"; NaCl `crypto_secretbox`.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::poly1305;

/// Bytes of the tag that authenticates a box.
pub(crate) const TAG: usize = 16;
/// Bytes of keystream made at once.
const BLOCK: usize = 64;
/// Bytes of keystream that are the tag's key and encrypt nothing.
const TAG_KEY: usize = 32;
/// "expand 32-byte k", Salsa20's constant for 32-byte keys.
const SIGMA: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

#[inline(always)]
fn quarter_round(x: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    x[b] ^= x[a].wrapping_add(x[d]).rotate_left(7);
    x[c] ^= x[b].wrapping_add(x[a]).rotate_left(9);
    x[d] ^= x[c].wrapping_add(x[b]).rotate_left(13);
    x[a] ^= x[d].wrapping_add(x[c]).rotate_left(18);
}

/// The 20 rounds of Salsa20.
#[inline(always)]
fn rounds(x: &mut [u32; 16]) {
    for _ in 0..10 {
        quarter_round(x, 0, 4, 8, 12);
        quarter_round(x, 5, 9, 13, 1);
        quarter_round(x, 10, 14, 2, 6);
        quarter_round(x, 15, 3, 7, 11);
        quarter_round(x, 0, 1, 2, 3);
        quarter_round(x, 5, 6, 7, 4);
        quarter_round(x, 10, 11, 8, 9);
        quarter_round(x, 15, 12, 13, 14);
    }
}

/// The four little-endian words of 16 bytes.
fn words(bytes: &[u8; 16]) -> [u32; 4] {
    let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    [word(0), word(4), word(8), word(12)]
}

/// HSalsa20: the key for all nonces that begin with `prefix`.
fn derive(key: &[u8; 32], prefix: &[u8; 16]) -> [u32; 8] {
    let (mut low, mut high) = ([0; 16], [0; 16]);
    low.copy_from_slice(&key[..16]);
    high.copy_from_slice(&key[16..]);
    let (k, l, n) = (words(&low), words(&high), words(prefix));
    let mut x = [
        SIGMA[0], k[0], k[1], k[2], k[3], SIGMA[1], n[0], n[1], n[2], n[3], SIGMA[2], l[0], l[1], l[2], l[3], SIGMA[3],
    ];
    rounds(&mut x);
    low.zeroize();
    high.zeroize();
    [x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9]]
}

/// The place in the sequence of nonces at which one box is sealed or opened.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    key: [u32; 8],
    /// The last 8 bytes of the nonce.
    low: u64,
}

impl Place {
    /// Block `block` of the keystream.
    #[inline]
    fn keystream(&self, block: u64) -> [u8; BLOCK] {
        let k = &self.key;
        // The nonce counts big-endian, Salsa20 takes it as little-endian words.
        let (n0, n1) = (((self.low >> 32) as u32).swap_bytes(), (self.low as u32).swap_bytes());
        let (b0, b1) = (block as u32, (block >> 32) as u32);
        let start =
            [SIGMA[0], k[0], k[1], k[2], k[3], SIGMA[1], n0, n1, b0, b1, SIGMA[2], k[4], k[5], k[6], k[7], SIGMA[3]];
        let mut x = start;
        rounds(&mut x);
        let mut out = [0; BLOCK];
        for ((x, start), bytes) in x.iter().zip(start).zip(out.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&x.wrapping_add(start).to_le_bytes());
        }
        out
    }

    /// Applies the keystream, of which `first` is the first block, behind the tag's key.
    fn apply(&self, first: &[u8; BLOCK], body: &mut [u8]) {
        let (head, rest) = body.split_at_mut(body.len().min(BLOCK - TAG_KEY));
        xor(head, &first[TAG_KEY..]);
        let mut chunks = rest.chunks_exact_mut(BLOCK);
        let mut block = 1;
        for chunk in &mut chunks {
            xor(chunk, &self.keystream(block));
            block += 1;
        }
        let last = chunks.into_remainder();
        if !last.is_empty() {
            xor(last, &self.keystream(block));
        }
    }

    /// The tag of an encrypted body.
    fn tag(first: &[u8; BLOCK], sealed: &[u8]) -> [u8; TAG] {
        let mut key = [0; TAG_KEY];
        key.copy_from_slice(&first[..TAG_KEY]);
        poly1305::tag(&key, sealed)
    }

    /// Encrypts `body` in place and returns its tag.
    pub(crate) fn seal(&self, body: &mut [u8]) -> [u8; TAG] {
        let first = self.keystream(0);
        self.apply(&first, body);
        Self::tag(&first, body)
    }

    /// Decrypts `body` in place if `tag` is its tag; else leaves it alone and returns false.
    #[must_use]
    pub(crate) fn open(&self, body: &mut [u8], tag: &[u8; TAG]) -> bool {
        let first = self.keystream(0);
        let genuine: bool = Self::tag(&first, body).ct_eq(tag).into();
        if genuine {
            self.apply(&first, body);
        }
        genuine
    }
}

#[inline]
fn xor(body: &mut [u8], stream: &[u8]) {
    for (byte, key) in body.iter_mut().zip(stream) {
        *byte ^= key;
    }
}

/// A key and the nonce it has come to.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Cipher {
    key: [u8; 32],
    prefix: [u8; 16],
    derived: [u32; 8],
    low: u64,
}

impl Cipher {
    pub(crate) fn new(key: &[u8; 32], nonce: &[u8; 24]) -> Self {
        let (mut prefix, mut low) = ([0; 16], [0; 8]);
        prefix.copy_from_slice(&nonce[..16]);
        low.copy_from_slice(&nonce[16..]);
        Cipher { key: *key, prefix, derived: derive(key, &prefix), low: u64::from_be_bytes(low) }
    }

    /// Where the next box is sealed or opened.
    pub(crate) fn place(&self) -> Place {
        Place { key: self.derived, low: self.low }
    }

    /// Counts the nonce up by one, big-endian over all its 24 bytes.
    pub(crate) fn step(&mut self) {
        self.low = self.low.wrapping_add(1);
        if self.low == 0 {
            self.prefix = u128::from_be_bytes(self.prefix).wrapping_add(1).to_be_bytes();
            self.derived = derive(&self.key, &self.prefix);
        }
    }
}

/// `crypto_secretbox_easy` with a nonce of zeros, for keys that are used once: tag, then the encrypted body.
pub(crate) fn seal_once<const PLAIN: usize, const SEALED: usize>(key: &[u8; 32], plain: &[u8; PLAIN]) -> [u8; SEALED] {
    const { assert!(SEALED == PLAIN + TAG) }
    let mut sealed = [0; SEALED];
    sealed[TAG..].copy_from_slice(plain);
    let tag = Cipher::new(key, &[0; 24]).place().seal(&mut sealed[TAG..]);
    sealed[..TAG].copy_from_slice(&tag);
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
    Cipher::new(key, &[0; 24]).place().open(&mut plain, &tag).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto_secretbox::aead::{AeadInPlace, KeyInit};
    use proptest::prelude::*;

    fn theirs(key: &[u8; 32], nonce: &[u8; 24], body: &mut [u8]) -> [u8; TAG] {
        let cipher = crypto_secretbox::XSalsa20Poly1305::new(key.into());
        cipher.encrypt_in_place_detached(nonce.into(), b"", body).unwrap().into()
    }

    proptest! {
        #[test]
        fn boxes_equal_those_of_crypto_secretbox(key: [u8; 32], nonce: [u8; 24], body in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (mut ours, mut oracle) = (body.clone(), body.clone());
            let place = Cipher::new(&key, &nonce).place();
            let tag = place.seal(&mut ours);
            prop_assert_eq!(tag, theirs(&key, &nonce, &mut oracle));
            prop_assert_eq!(&ours, &oracle);
            prop_assert!(place.open(&mut ours, &tag));
            prop_assert_eq!(&ours, &body);
        }

        #[test]
        fn a_changed_bit_is_noticed(key: [u8; 32], mut body in prop::collection::vec(any::<u8>(), 1..300), at: prop::sample::Index, bit in 0..8u32) {
            let place = Cipher::new(&key, &[7; 24]).place();
            let tag = place.seal(&mut body);
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            let before = body.clone();
            prop_assert!(!place.open(&mut body, &tag));
            prop_assert_eq!(before, body);
        }
    }

    #[test]
    fn the_nonce_counts_over_all_its_bytes() {
        for (start, next) in [
            ([0; 24], {
                let mut n = [0; 24];
                n[23] = 1;
                n
            }),
            (
                {
                    let mut n = [0; 24];
                    n[16..].fill(0xff);
                    n
                },
                {
                    let mut n = [0; 24];
                    n[15] = 1;
                    n
                },
            ),
            ([0xff; 24], [0; 24]),
        ] {
            let mut cipher = Cipher::new(&[9; 32], &start);
            cipher.step();
            let (mut ours, mut oracle) = ([1; 100], [1; 100]);
            assert_eq!(cipher.place().seal(&mut ours), theirs(&[9; 32], &next, &mut oracle));
            assert_eq!(ours, oracle);
        }
    }
}
