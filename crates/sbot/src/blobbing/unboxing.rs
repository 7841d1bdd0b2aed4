//! Encrypted blobs, as patchwork writes them: a box stream under a key that stands in links as `?unbox=KEY`, its first
//! nonce all zeros. It is opened a box at a time, so a blob of any size takes little memory.
//!
//! Source: ssb-serve-blobs `index.js`, pull-box-stream `index.js`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use sbot_shs::boxstream::{BoxError, BoxKey, Opener};

/// Characters of a key in base64; ssb-serve-blobs takes no notice of what follows them.
const KEY_LENGTH: usize = 44;

/// The key of an encrypted blob.
#[derive(Clone)]
pub(crate) struct UnboxKey(BoxKey);

impl std::fmt::Debug for UnboxKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnboxKey(hidden)")
    }
}

/// Why a blob can't be decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnboxError {
    /// The key is no key.
    #[error("the unbox key must be 32 bytes in base64")]
    Key,
    /// The blob was encrypted with another key, or not at all.
    #[error("the blob can't be decrypted with this key: {0}")]
    Box(#[from] BoxError),
    /// It ends too soon.
    #[error("the encrypted blob ends in the middle")]
    Cut,
}

impl UnboxKey {
    /// Reads a key in base64. Spaces are taken for the `+` that queries turn into them.
    ///
    /// # Errors
    /// [`UnboxError::Key`].
    pub(crate) fn parse(text: &str) -> Result<Self, UnboxError> {
        let text = text.replace(' ', "+");
        let key = text.get(..KEY_LENGTH).and_then(|text| STANDARD.decode(text).ok());
        let key = key.and_then(|key| key.try_into().ok()).ok_or(UnboxError::Key)?;
        Ok(Self(BoxKey { key, nonce: [0; 24] }))
    }

    /// Cuts the query off a blob's link, `&….sha256?unbox=KEY`, and reads the key in it if there is one.
    ///
    /// # Errors
    /// [`UnboxError::Key`] if there is one and it is none.
    pub(crate) fn from_link(link: &str) -> Result<(&str, Option<Self>), UnboxError> {
        let Some((id, query)) = link.split_once('?') else { return Ok((link, None)) };
        let value = query.split('&').find_map(|part| part.strip_prefix("unbox="));
        let Some(value) = value else { return Ok((id, None)) };
        let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        Ok((id, Some(Self::parse(&decoded)?)))
    }
}

/// Decrypts a blob piece by piece.
pub(super) struct Unboxer {
    opener: Opener,
    /// Of an incomplete box.
    rest: BytesMut,
    done: bool,
}

impl Unboxer {
    pub(super) fn new(key: &UnboxKey) -> Self {
        Self { opener: Opener::new(&key.0), rest: BytesMut::new(), done: false }
    }

    /// Takes the next piece; answers what of the plain bytes is known by now.
    pub(super) fn open(&mut self, piece: &[u8]) -> Result<Bytes, UnboxError> {
        if self.done {
            return Ok(Bytes::new());
        }
        self.rest.extend_from_slice(piece);
        let mut plain = Vec::with_capacity(self.rest.len());
        loop {
            let opened = self.opener.open(&mut self.rest)?;
            plain.extend_from_slice(&self.rest[..opened.plain]);
            let _ = self.rest.split_to(opened.consumed);
            self.done = opened.goodbye;
            if opened.consumed == 0 || self.done {
                return Ok(plain.into());
            }
        }
    }

    /// There are no more pieces.
    pub(super) fn finish(self) -> Result<(), UnboxError> {
        if self.done { Ok(()) } else { Err(UnboxError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use sbot_shs::boxstream::Sealer;

    use super::*;

    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn sealed(plain: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        let mut sealer = Sealer::new(&BoxKey { key: [1; 32], nonce: [0; 24] });
        sealer.seal(plain, &mut out);
        out.extend_from_slice(&sealer.goodbye());
        out
    }

    fn open(boxed: &[u8], piece: usize) -> Result<Vec<u8>, UnboxError> {
        let mut unboxer = Unboxer::new(&UnboxKey::parse(KEY)?);
        let mut plain = Vec::new();
        for piece in boxed.chunks(piece) {
            plain.extend_from_slice(&unboxer.open(piece)?);
        }
        unboxer.finish().map(|()| plain)
    }

    #[test]
    fn an_encrypted_blob_is_opened_in_pieces_of_any_length() {
        for length in [0, 1, 4096, 4097, 100_000] {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let boxed = sealed(&plain);
            for piece in [1, 33, 4096, 1 << 20] {
                assert_eq!(open(&boxed, piece).unwrap(), plain, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_was_cut_or_changed_is_noticed() {
        let boxed = sealed(&[7; 10_000]);
        assert_eq!(open(&boxed[..boxed.len() - 1], 999), Err(UnboxError::Cut));
        let mut changed = boxed.clone();
        changed[5000] ^= 1;
        assert!(matches!(open(&changed, 999), Err(UnboxError::Box(_))));
    }

    #[test]
    fn keys_are_read_from_links_however_they_were_escaped() {
        let id = "&pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256";
        let key = "+/EBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let bytes = STANDARD.decode(key).unwrap();
        for written in
            [key.to_owned(), format!("{key}.boxs"), key.replace('+', " "), key.replace('+', "%2B").replace('=', "%3D")]
        {
            let link = format!("{id}?a=b&unbox={written}");
            let (found, key) = UnboxKey::from_link(&link).unwrap();
            assert_eq!((found, key.unwrap().0.key.to_vec()), (id, bytes.clone()), "{written}");
        }
        assert!(matches!(UnboxKey::from_link(id), Ok((found, None)) if found == id));
        assert!(UnboxKey::from_link(&format!("{id}?unbox=short")).is_err());
    }
}
