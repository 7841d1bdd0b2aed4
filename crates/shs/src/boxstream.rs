//! The box stream: an ordered stream of bytes, cut into boxes that nobody can read, change, reorder or drop unseen.
//!
//! A box is a header of [`HEADER`] bytes and a body of 1 to [`MAX_BODY`] bytes. The header is itself a sealed box: a
//! tag of 16 bytes, then encrypted the body's length (2 bytes, big-endian) and the body's tag (16 bytes). Nonces count
//! up: one for each header, one for each body. A header of 18 zeros is the goodbye that ends the stream; a stream that
//! ends without it was cut off.
//!
//! Source: pull-box-stream 1.0 `index.js`.

use bytes::BytesMut;

use crate::secretbox::{BEFORE, Cipher, TAG};

/// Bytes of a box before its body.
pub const HEADER: usize = TAG + PLAIN_HEADER;
/// Most bytes that one box holds.
pub const MAX_BODY: usize = 4096;
/// Bytes of the largest box on the wire.
pub const MAX_BOX: usize = HEADER + MAX_BODY;
/// Length of the body and its tag.
const PLAIN_HEADER: usize = 2 + TAG;

/// Key and first nonce of one direction.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct BoxKey {
    /// The symmetric key.
    pub key: [u8; 32],
    /// The nonce of the first header.
    pub nonce: [u8; 24],
}

impl std::fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxKey(hidden)")
    }
}

/// Why a box cannot be opened. The stream is then unusable: what follows cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// The header was made with another key or changed on its way.
    #[error("the header of a box was tampered with or sealed with another key")]
    Header,
    /// The body was changed on its way.
    #[error("the body of a box was tampered with")]
    Body,
    /// The header announces a length that no box has.
    #[error("a box announces {0} bytes, allowed are 1 to {MAX_BODY}")]
    Length(usize),
}

/// Makes boxes.
pub struct Sealer(Cipher);

impl Sealer {
    /// Starts a stream.
    pub fn new(key: &BoxKey) -> Self {
        Sealer(Cipher::new(&key.key, &key.nonce))
    }

    /// Seals one box in place: `room` is [`HEADER`] bytes to be overwritten, then 1 to [`MAX_BODY`] bytes of body.
    ///
    /// # Panics
    /// If `room` has no body or one of more than [`MAX_BODY`] bytes: the caller cuts the stream.
    pub fn seal_in_place(&mut self, room: &mut [u8]) {
        assert!((HEADER + 1..=MAX_BOX).contains(&room.len()), "a box of {} bytes", room.len());
        let nonce = self.0.nonce();
        self.0.step();
        let tag = self.0.seal_behind(&self.0.nonce(), &mut room[HEADER - BEFORE..]);
        self.0.step();
        let (header, body) = room.split_at_mut(HEADER);
        // MAX_BODY fits two bytes.
        header[TAG..TAG + 2].copy_from_slice(&(body.len() as u16).to_be_bytes());
        header[TAG + 2..].copy_from_slice(&tag);
        let tag = self.0.seal(&nonce, &mut header[TAG..]);
        header[..TAG].copy_from_slice(&tag);
    }

    /// Appends `plain` to `out` as as few boxes as hold it; none for an empty `plain`.
    pub fn seal(&mut self, plain: &[u8], out: &mut BytesMut) {
        out.reserve(plain.len() + plain.len().div_ceil(MAX_BODY) * HEADER);
        for body in plain.chunks(MAX_BODY) {
            let start = out.len();
            out.extend_from_slice(&[0; HEADER]);
            out.extend_from_slice(body);
            self.seal_in_place(&mut out[start..]);
        }
    }

    /// The last header of the stream. Nothing may be sealed after it.
    pub fn goodbye(&mut self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let tag = self.0.seal(&self.0.nonce(), &mut header[TAG..]);
        header[..TAG].copy_from_slice(&tag);
        self.0.step();
        header
    }
}

/// What [`Opener::open`] did to a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Bytes at the buffer's start that are done with. The next call begins behind them.
    pub consumed: usize,
    /// Bytes of plain text, now at the buffer's very start; at most `consumed`.
    pub plain: usize,
    /// The other side said goodbye; bytes that follow are of no concern.
    pub goodbye: bool,
}

/// Opens boxes.
pub struct Opener {
    cipher: Cipher,
    /// Length and tag of the body that follows, once its header was opened.
    body: Option<(usize, [u8; TAG])>,
    goodbye: bool,
}

impl Opener {
    /// Starts a stream.
    pub fn new(key: &BoxKey) -> Self {
        Opener { cipher: Cipher::new(&key.key, &key.nonce), body: None, goodbye: false }
    }

    /// Opens every whole box at the start of `buffer`, in place.
    ///
    /// The bodies are moved together to the buffer's start. An incomplete box is left for the next call, which needs
    /// at least [`Opener::needs`] bytes to get on. If a box is bad, those before it are returned first, and the error
    /// comes with the next call.
    ///
    /// # Errors
    /// [`BoxError`], again and again: the stream cannot go on.
    pub fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, BoxError> {
        let mut done = Opened { consumed: 0, plain: 0, goodbye: self.goodbye };
        while !done.goodbye {
            match self.open_next(buffer, &mut done) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if done.consumed == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Bytes without which [`Opener::open`] can't do a thing, at most [`MAX_BODY`]; 0 after the goodbye.
    pub fn needs(&self) -> usize {
        match self.body {
            _ if self.goodbye => 0,
            Some((length, _)) => length,
            None => HEADER,
        }
    }

    /// One header or one body; false if the buffer has no whole one.
    fn open_next(&mut self, buffer: &mut [u8], done: &mut Opened) -> Result<bool, BoxError> {
        let Some((length, tag)) = self.body else {
            let Some(header) = buffer.get(done.consumed..done.consumed + HEADER) else { return Ok(false) };
            let (mut tag, mut plain) = ([0; TAG], [0; PLAIN_HEADER]);
            tag.copy_from_slice(&header[..TAG]);
            plain.copy_from_slice(&header[TAG..]);
            if !self.cipher.open(&self.cipher.nonce(), &mut plain, &tag) {
                return Err(BoxError::Header);
            }
            if plain == [0; PLAIN_HEADER] {
                self.goodbye = true;
                done.goodbye = true;
            } else {
                let length = usize::from(u16::from_be_bytes([plain[0], plain[1]]));
                if !(1..=MAX_BODY).contains(&length) {
                    return Err(BoxError::Length(length));
                }
                tag.copy_from_slice(&plain[2..]);
                self.body = Some((length, tag));
            }
            self.cipher.step();
            done.consumed += HEADER;
            return Ok(true);
        };
        let body = done.consumed..done.consumed + length;
        if buffer.len() < body.end {
            return Ok(false);
        }
        if !self.cipher.open_to(&self.cipher.nonce(), buffer, body, done.plain, &tag) {
            return Err(BoxError::Body);
        }
        self.cipher.step();
        self.body = None;
        done.consumed += length;
        done.plain += length;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    const KEY: BoxKey = BoxKey { key: [3; 32], nonce: [250; 24] };

    /// Feeds `sealed` in pieces of the given sizes, as a socket would; returns the plain text and how it ended.
    fn open_in_pieces(sealed: &[u8], sizes: &[usize]) -> (Vec<u8>, Result<bool, BoxError>) {
        let (mut opener, mut buffer, mut plain) = (Opener::new(&KEY), Vec::new(), Vec::new());
        let mut sizes = sizes.iter().cycle();
        let mut rest = sealed;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&rest.len())));
            rest = after;
            buffer.extend_from_slice(piece);
            loop {
                match opener.open(&mut buffer) {
                    Err(error) => return (plain, Err(error)),
                    Ok(opened) => {
                        assert!(opened.plain <= opened.consumed);
                        plain.extend_from_slice(&buffer[..opened.plain]);
                        buffer.drain(..opened.consumed);
                        if opened.goodbye {
                            return (plain, Ok(true));
                        }
                        if opened.consumed == 0 {
                            assert!(buffer.len() < opener.needs());
                            break;
                        }
                    }
                }
            }
            if rest.is_empty() {
                return (plain, Ok(false));
            }
        }
    }

    fn seal(writes: &[Vec<u8>]) -> Vec<u8> {
        let (mut sealer, mut out) = (Sealer::new(&KEY), BytesMut::new());
        for write in writes {
            sealer.seal(write, &mut out);
        }
        out.extend_from_slice(&sealer.goodbye());
        out.to_vec()
    }

    fn writes() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_sealed_is_opened_however_it_is_cut(writes in writes(), sizes in prop::collection::vec(1usize..6000, 1..8)) {
            let (plain, end) = open_in_pieces(&seal(&writes), &sizes);
            prop_assert_eq!(plain, writes.concat());
            prop_assert_eq!(end, Ok(true));
        }

        #[test]
        fn a_changed_byte_ends_the_stream_and_nothing_false_is_read(
            writes in writes(), at: prop::sample::Index, change in 1u8.., sizes in prop::collection::vec(1usize..6000, 1..8),
        ) {
            let mut sealed = seal(&writes);
            let at = at.index(sealed.len());
            sealed[at] ^= change;
            let (plain, end) = open_in_pieces(&sealed, &sizes);
            prop_assert!(writes.concat().starts_with(&plain));
            prop_assert!(matches!(end, Err(BoxError::Header | BoxError::Body)));
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..10_000)) {
            let (plain, end) = open_in_pieces(&bytes, &[]);
            prop_assert!(plain.is_empty());
            prop_assert_eq!(end, if bytes.len() < HEADER { Ok(false) } else { Err(BoxError::Header) });
        }
    }

    #[test]
    fn boxes_are_those_of_pull_box_stream() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // What pull-box-stream 1.0 over libsodium makes of the same key, nonce and writes; the nonce carries twice.
        let mut key = BoxKey { key: std::array::from_fn(|i| i as u8), nonce: std::array::from_fn(|i| 100 + i as u8) };
        key.nonce[22..].copy_from_slice(&[255, 254]);
        let (mut sealer, mut out) = (Sealer::new(&key), BytesMut::new());
        sealer.seal(br#"{"name":["blobs","has"]}"#, &mut out);
        sealer.seal(&(0..5000).map(|i| (i % 251) as u8).collect::<Vec<_>>(), &mut out);
        out.extend_from_slice(&sealer.goodbye());
        assert_eq!(out.len(), 5160);
        let first = "2b2f8b831e53b8833e0355b244a26a92f10b591b327ae6ff0f060fbd2cc057a8\
                     44ed9fe897f65ab135931954317a459f43a7801477bf7ec8a81a";
        assert_eq!(hex(&out[..58]), first);
        let goodbye = "17b9f59089b84772b97d6452c3bd2691c35bae747ce6802a21605235d3020dc041ca";
        assert_eq!(hex(&out[5126..]), goodbye);
        let all = "2e76bffc310da2f9b1b5599099de0184201c2269e767f88c537cf97ad33171ec";
        assert_eq!(hex(&Sha256::digest(&out)), all);
    }

    #[test]
    fn a_stream_cut_short_has_no_goodbye() {
        let sealed = seal(&[vec![1; 100]]);
        assert_eq!(open_in_pieces(&sealed[..sealed.len() - 1], &[50]), (vec![1; 100], Ok(false)));
    }

    #[test]
    fn lengths_that_no_box_has_are_refused() {
        for length in [0u16, 4097, u16::MAX] {
            let mut header = [0; HEADER];
            header[TAG..TAG + 2].copy_from_slice(&length.to_be_bytes());
            header[TAG + 2] = 1;
            let tag = Cipher::new(&KEY.key, &KEY.nonce).seal(&KEY.nonce, &mut header[TAG..]);
            header[..TAG].copy_from_slice(&tag);
            assert_eq!(Opener::new(&KEY).open(&mut header), Err(BoxError::Length(length.into())));
        }
    }

    #[test]
    fn boxes_before_a_bad_one_are_read_first() {
        let mut sealed = seal(&[vec![1; 10], vec![2; 10]]);
        let second = HEADER + 10 + HEADER;
        sealed[second] ^= 1;
        assert_eq!(open_in_pieces(&sealed, &[]), (vec![1; 10], Err(BoxError::Body)));
    }

    #[test]
    fn exchanged_boxes_are_noticed() {
        let sealed = seal(&[vec![1; 10], vec![2; 10]]);
        let (first, rest) = sealed.split_at(HEADER + 10);
        let (second, _) = rest.split_at(HEADER + 10);
        assert_eq!(open_in_pieces(&[second, first].concat(), &[]), (vec![], Err(BoxError::Header)));
    }
}
