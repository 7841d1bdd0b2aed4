//! Private messages: content for up to seven readers, whose number and names nobody else learns.
//!
//! Layout: a nonce (24 bytes), a one-time public key (32), for each recipient a secretbox of the number of recipients
//! and the body's key (1 + 32 + 16), and a secretbox of the body. A reader tries its own shared key on one slot after
//! the other. In a message the whole is base64 with `.box` behind it.
//!
//! Source: private-box 0.3 `index.js`, ssb-keys 8 `box`, `unboxKey` and `unboxBody`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{FeedId, Keypair};

/// Most recipients of one box (private-box `DEFAULT_MAX`).
pub const MAX_RECIPIENTS: usize = 7;

/// Slots that a reader tries: one more than there may be recipients, as private-box does.
const SLOTS_TRIED: usize = MAX_RECIPIENTS + 1;

const NONCE: usize = 24;
const HEAD: usize = NONCE + 32;
const TAG: usize = 16;
const SLOT: usize = 1 + 32 + TAG;

/// What opens the body of one box: the number of its recipients and the body's key, `unbox` in ssb-db's answers.
pub type BodyKey = [u8; 33];

/// Why content can't be boxed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// None, or more than [`MAX_RECIPIENTS`].
    #[error("max recipients is:{MAX_RECIPIENTS} found:{found}")]
    Recipients {
        /// How many.
        found: usize,
    },
    /// A recipient's key is no usable key.
    #[error("{0} can't be written to: its key is no valid ed25519 key")]
    Recipient(FeedId),
}

/// The randomness of one box; never use it for two.
#[derive(Clone)]
pub struct BoxSeed {
    /// The nonce.
    pub nonce: [u8; 24],
    /// The body's key.
    pub key: [u8; 32],
    /// The one-time secret.
    pub one_time: [u8; 32],
}

impl BoxSeed {
    /// Fresh randomness from the system.
    ///
    /// # Panics
    /// If the system has none to give.
    pub fn generate() -> BoxSeed {
        let mut seed = BoxSeed { nonce: [0; 24], key: [0; 32], one_time: [0; 32] };
        for part in [&mut seed.nonce[..], &mut seed.key[..], &mut seed.one_time[..]] {
            getrandom::fill(part).unwrap_or_else(|error| panic!("no randomness: {error}"));
        }
        seed
    }
}

/// Boxes `content` (JSON) for `recipients`: the string that a message holds, `BASE64.box`.
///
/// # Errors
/// [`BoxError`] for no, too many, or impossible recipients.
pub fn seal(content: &[u8], recipients: &[FeedId], seed: &BoxSeed) -> Result<String, BoxError> {
    if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
        return Err(BoxError::Recipients { found: recipients.len() });
    }
    let one_time = StaticSecret::from(seed.one_time);
    let nonce = Nonce::from(seed.nonce);
    let mut length_and_key = Zeroizing::new([0; 33]);
    length_and_key[0] = recipients.len() as u8;
    length_and_key[1..].copy_from_slice(&seed.key);

    let mut boxed = Vec::with_capacity(HEAD + SLOT * recipients.len() + content.len() + TAG);
    boxed.extend_from_slice(&seed.nonce);
    boxed.extend_from_slice(PublicKey::from(&one_time).as_bytes());
    for recipient in recipients {
        let public = recipient.curve_public().ok_or(BoxError::Recipient(*recipient))?;
        let shared = one_time.diffie_hellman(&PublicKey::from(public));
        let slot = encrypt(shared.as_bytes(), &nonce, length_and_key.as_slice());
        boxed.extend_from_slice(&slot);
    }
    boxed.extend_from_slice(&encrypt(&seed.key, &nonce, content));
    Ok(format!("{}.box", STANDARD.encode(boxed)))
}

fn encrypt(key: &[u8; 32], nonce: &Nonce, plain: &[u8]) -> Vec<u8> {
    // The cipher fails only for texts of 256 GiB.
    XSalsa20Poly1305::new(key.into()).encrypt(nonce, plain).unwrap_or_default()
}

fn decrypt(key: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (key, nonce) = (<[u8; 32]>::try_from(key).ok()?, <[u8; NONCE]>::try_from(nonce).ok()?);
    XSalsa20Poly1305::new(&key.into()).decrypt(&Nonce::from(nonce), sealed).ok()
}

/// The bytes of a `BASE64.box` string; `None` if it is none. Other suffixes (`.box2`) are other formats.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_suffix(".box")?).ok()
}

/// The key of a box's body, if `keys` is one of its recipients.
pub fn open_key(boxed: &[u8], keys: &Keypair) -> Option<BodyKey> {
    let nonce = boxed.get(..NONCE)?;
    let one_time = <[u8; 32]>::try_from(boxed.get(NONCE..HEAD)?).ok()?;
    let shared = StaticSecret::from(*keys.curve_secret()).diffie_hellman(&PublicKey::from(one_time));
    if !shared.was_contributory() {
        return None;
    }
    let slots = boxed.get(HEAD..boxed.len().checked_sub(TAG)?)?;
    slots
        .chunks_exact(SLOT)
        .take(SLOTS_TRIED)
        .find_map(|slot| decrypt(shared.as_bytes(), nonce, slot))
        .and_then(|key| key.try_into().ok())
}

/// The body of a box whose key is known.
pub fn open_body(boxed: &[u8], key: &BodyKey) -> Option<Vec<u8>> {
    let start = HEAD + SLOT * usize::from(key[0]);
    decrypt(&key[1..], boxed.get(..NONCE)?, boxed.get(start..)?)
}

/// The content of a `BASE64.box` string, if `keys` is one of its recipients.
pub fn open(text: &str, keys: &Keypair) -> Option<Vec<u8>> {
    let boxed = decode(text)?;
    open_body(&boxed, &open_key(&boxed, keys)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> BoxSeed {
        BoxSeed { nonce: [1; 24], key: [2; 32], one_time: [3; 32] }
    }

    #[test]
    fn every_recipient_opens_a_box_and_nobody_else() {
        let readers: Vec<_> = (1..=7).map(|byte| Keypair::from_seed([byte; 32])).collect();
        let ids: Vec<_> = readers.iter().map(Keypair::id).collect();
        let text = seal(b"{\"type\":\"post\"}", &ids, &seed()).unwrap();
        for reader in &readers {
            assert_eq!(open(&text, reader).unwrap(), b"{\"type\":\"post\"}");
        }
        assert_eq!(open(&text, &Keypair::from_seed([9; 32])), None);
    }

    #[test]
    fn a_box_made_by_ssb_keys_opens() {
        let text = "2mYNHb2k6L+Rnbcl1GtLkJjV2EksuYAyPG/YZyKcYF6f/DZsmOcew84h086v9WRutUM3zB0KuV8xk1wJD+CeOqJzVHCCJcqDrjcc54s\
                    VNA5T7lDfGKlGSnEhNEC4a0A+3Gr5xW+TGF8rsabmrRoyWkaWIw6JPzyIx1/9sAQXt3y72DkQqUobWw48cEwW+rcSLFoGXsm+GgkDTqeFV\
                    AzdK8MUpNbb83Y2ygsTaBoUdQ0r3GvvmgJnoMnTv598lNKFH1q3i51JcPoogBwQiw==.box";
        for seed in [3, 4] {
            let opened = open(text, &Keypair::from_seed([seed; 32])).unwrap();
            assert_eq!(String::from_utf8(opened).unwrap(), r#"{"type":"post","text":"secret ☂"}"#);
        }
        assert_eq!(open(text, &Keypair::from_seed([5; 32])), None);
    }

    #[test]
    fn a_changed_byte_closes_a_box() {
        let reader = Keypair::from_seed([1; 32]);
        let boxed = decode(&seal(b"body", &[reader.id()], &seed()).unwrap()).unwrap();
        let key = open_key(&boxed, &reader).unwrap();
        assert_eq!(open_body(&boxed, &key).unwrap(), b"body");
        for at in 0..boxed.len() {
            let mut changed = boxed.clone();
            changed[at] ^= 1;
            let opened = open_key(&changed, &reader).and_then(|key| open_body(&changed, &key));
            assert_eq!(opened, None, "byte {at}");
        }
    }

    #[test]
    fn a_one_time_key_of_small_order_opens_nothing() {
        let reader = Keypair::from_seed([1; 32]);
        let mut boxed = decode(&seal(b"body", &[reader.id()], &seed()).unwrap()).unwrap();
        boxed[NONCE..HEAD].fill(0);
        assert_eq!(open_key(&boxed, &reader), None);
    }

    #[test]
    fn eight_recipients_are_too_many_and_none_too_few() {
        let id = Keypair::from_seed([1; 32]).id();
        assert_eq!(seal(b"x", &[id; 8], &seed()), Err(BoxError::Recipients { found: 8 }));
        assert_eq!(seal(b"x", &[], &seed()), Err(BoxError::Recipients { found: 0 }));
        assert_eq!(seal(b"x", &[FeedId([0; 32])], &seed()), Err(BoxError::Recipient(FeedId([0; 32]))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_may_claim_to_be_a_box(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let keys = Keypair::from_seed([1; 32]);
            let _ = open_key(&bytes, &keys);
            let _ = open_body(&bytes, &[7; 33]);
            let _ = open(&String::from_utf8_lossy(&bytes), &keys);
        }
    }
}
