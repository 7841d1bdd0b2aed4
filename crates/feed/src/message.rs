//! Classic messages: what a feed is made of.
//!
//! A message arrives as JSON, the value alone or within `{key, value, timestamp}`. [`parse_message`](crate::parse_message)
//! checks its shape and computes its id, [`Unverified::verify`] or [`verify_batch`](crate::verify_batch) its signature,
//! [`check_next`] its place in the feed. What remains is a [`Message`] with the exact bytes in which it is stored and
//! served.

use bytes::Bytes;

use crate::json::JsonError;
use crate::{FeedId, MsgId, keys, rules};

/// What every signature of a classic message ends with.
pub(crate) const SIGNATURE_SUFFIX: &[u8] = b".sig.ed25519";

/// Why a message is refused. The texts begin as ssb-validate's do where it has one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MessageError {
    /// The text is no JSON.
    #[error("invalid message: {0}")]
    Json(#[from] JsonError),
    /// More than [`MAX_INPUT`](crate::MAX_INPUT) bytes.
    #[error("invalid message: {length} bytes of JSON, more than any message needs")]
    TooManyBytes {
        /// How many bytes.
        length: usize,
    },
    /// The JSON is no object with a message's fields.
    #[error("message has invalid properties: {0}")]
    Shape(&'static str),
    /// Keys other than the seven, or in another order.
    #[error(
        "message must have keys in allowed order: previous, author and sequence, timestamp, hash, content, signature"
    )]
    KeyOrder,
    /// `author` is no feed id.
    #[error("invalid message: must have author")]
    Author,
    /// `signature` is not canonical base64 of 64 bytes with `.sig.ed25519`.
    #[error("invalid message: signature type must match author type")]
    SignatureType,
    /// The signing text is over [`MAX_LENGTH`](crate::MAX_LENGTH) UTF-16 units long.
    #[error("Encoded message must not be larger than 8192 bytes. Current size is {length}")]
    TooLong {
        /// UTF-16 units; of texts over a mebibyte at least so many.
        length: usize,
    },
    /// `content.type` is no string of 3 to 52 UTF-16 units.
    #[error("type must be a string 3 <= type.length < 52, was: {found}")]
    ContentType {
        /// What it is, as JSON, shortened.
        found: String,
    },
    /// The signature is not the author's.
    #[error("invalid signature of {author} at sequence {sequence}")]
    Signature {
        /// Whose it should be.
        author: FeedId,
        /// Of which message.
        sequence: u64,
    },
    /// The sequence doesn't follow: a message is missing, or this one is known already.
    #[error("invalid message: expected sequence {expected} but got: {found}, on feed: {author}")]
    Sequence {
        /// The feed.
        author: FeedId,
        /// What comes next.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The right sequence, but on top of another message: the feed has forked.
    #[error("invalid message: expected different previous message, on feed: {author} (forked at sequence {sequence})")]
    Fork {
        /// The feed.
        author: FeedId,
        /// Where the branches part.
        sequence: u64,
    },
}

/// A message whose shape and signature hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id.
    pub key: MsgId,
    /// Who signed it.
    pub author: FeedId,
    /// Its place in the feed, from 1.
    pub sequence: u64,
    /// The message before it; `None` for the first.
    pub previous: Option<MsgId>,
    /// When the author says it was written, in ms since 1970.
    pub timestamp: f64,
    /// The value as V8's `JSON.stringify` prints it.
    pub value: Bytes,
}

/// The newest message of a feed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedTip {
    /// Its sequence.
    pub sequence: u64,
    /// Its id.
    pub key: MsgId,
    /// Its claimed timestamp, in ms since 1970.
    pub timestamp: f64,
}

impl From<&Message> for FeedTip {
    fn from(message: &Message) -> FeedTip {
        FeedTip { sequence: message.sequence, key: message.key, timestamp: message.timestamp }
    }
}

/// A message whose signature has not been checked yet.
#[derive(Debug, Clone)]
pub struct Unverified {
    pub(crate) message: Message,
    pub(crate) signature: [u8; 64],
    /// What was signed: the text, or its authenticator under the network's signing key.
    pub(crate) signed: Vec<u8>,
}

impl Unverified {
    /// What the message says of itself.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Checks the signature, by itself.
    ///
    /// # Errors
    /// [`MessageError::Signature`].
    pub fn verify(self) -> Result<Message, MessageError> {
        if keys::verify(&self.message.author, &self.signed, &self.signature) {
            Ok(self.message)
        } else {
            Err(MessageError::Signature { author: self.message.author, sequence: self.message.sequence })
        }
    }

    pub(crate) fn parts(&self) -> (&FeedId, &[u8; 64], &[u8]) {
        (&self.message.author, &self.signature, &self.signed)
    }

    pub(crate) fn into_message(self) -> Message {
        self.message
    }
}

/// Checks that `message` follows `tip`, the feed's newest message.
///
/// # Errors
/// [`MessageError::Sequence`] if it doesn't follow: below `expected` it, or another in its place, is known already;
/// above, a message is missing. [`MessageError::Fork`] if it follows another message.
pub fn check_next(tip: Option<&FeedTip>, message: &Message) -> Result<(), MessageError> {
    let author = message.author;
    let expected = tip.map_or(1, |tip| tip.sequence.saturating_add(1));
    if message.sequence != expected {
        return Err(MessageError::Sequence { author, expected, found: message.sequence });
    }
    if message.previous != tip.map(|tip| tip.key) {
        return Err(MessageError::Fork { author, sequence: message.sequence });
    }
    Ok(())
}

impl Message {
    /// Takes the fields out of a value that was verified before it was stored.
    ///
    /// Nothing is hashed or verified, nor is the content looked at: for our own log alone.
    ///
    /// # Errors
    /// [`MessageError`] if the bytes are not a message at all: the log is damaged.
    pub fn trusted(key: MsgId, value: Bytes) -> Result<Message, MessageError> {
        let message = match stored_head(&value) {
            Some(message) => message,
            None => rules::parse_fields(&value)?,
        };
        Ok(Message { key, value, ..message })
    }

    /// The raw JSON of `content`: a slice of the value.
    pub fn content(&self) -> &[u8] {
        content_of(&self.value)
    }
}

/// The fields before `content` of a value as this crate prints it, read where they must be.
fn stored_head(value: &[u8]) -> Option<Message> {
    let rest = value.strip_prefix(b"{\"previous\":")?;
    let (previous, rest) = match rest.strip_prefix(b"null,") {
        Some(rest) => (None, rest),
        None => {
            let (id, rest) = quoted(rest)?;
            (Some(MsgId::from_ascii(id).ok()?), rest.strip_prefix(b",")?)
        }
    };
    let (author, sequence, rest) = match rest.strip_prefix(b"\"author\":") {
        Some(rest) => {
            let (author, rest) = quoted(rest)?;
            let (sequence, rest) = number(rest.strip_prefix(b",\"sequence\":")?)?;
            (author, sequence, rest.strip_prefix(b",")?)
        }
        None => {
            let (sequence, rest) = number(rest.strip_prefix(b"\"sequence\":")?)?;
            let (author, rest) = quoted(rest.strip_prefix(b",\"author\":")?)?;
            (author, sequence, rest.strip_prefix(b",")?)
        }
    };
    let (timestamp, rest) = number(rest.strip_prefix(b"\"timestamp\":")?)?;
    if !rest.starts_with(b",\"hash\":\"sha256\",\"content\":") || !value.ends_with(b".sig.ed25519\"}") {
        return None;
    }
    Some(Message {
        key: MsgId([0; 32]),
        author: FeedId::from_ascii(author).ok()?,
        sequence: sequence.parse().ok()?,
        previous,
        timestamp: timestamp.parse().ok()?,
        value: Bytes::new(),
    })
}

/// A string without escapes, and what follows it.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    Some((&text[..end], &text[end + 1..]))
}

/// The text of a number, and what follows it.
fn number(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(b',', text)?;
    Some((std::str::from_utf8(&text[..end]).ok()?, &text[end..]))
}

/// The raw JSON of `content` in a stored value; empty if `value` is not one.
///
/// In a stored value the head is six keys of fixed form, and what follows the content is the signature alone, of fixed
/// length: no parsing is needed.
pub fn content_of(value: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"\"hash\":\"sha256\",\"content\":";
    const TAIL: usize = b",\"signature\":\"\"}".len() + 88 + SIGNATURE_SUFFIX.len();
    let Some(start) = memchr::memmem::find(value, MARK).map(|at| at + MARK.len()) else { return b"" };
    value.get(start..value.len().saturating_sub(TAIL)).unwrap_or_default()
}

/// Appends `{"key":…,"value":…,"timestamp":…}`, the form in which clients get a stored message.
pub fn write_key_value_timestamp(out: &mut Vec<u8>, key: &MsgId, value: &[u8], received: f64) {
    out.reserve(value.len() + 110);
    out.extend_from_slice(b"{\"key\":\"");
    key.write_to(out);
    out.extend_from_slice(b"\",\"value\":");
    out.extend_from_slice(value);
    out.extend_from_slice(b",\"timestamp\":");
    // As JSON.stringify prints numbers that are none.
    let mut buffer = ryu_js::Buffer::new();
    out.extend_from_slice(if received.is_finite() { buffer.format_finite(received).as_bytes() } else { b"null" });
    out.push(b'}');
}
