//! Classic messages: what a feed is made of.
//!
//! A message arrives as JSON, the value alone or within `{key, value, timestamp}`. [`parse_message`] checks its shape
//! and computes its id, [`Unverified::verify`] or [`verify_batch`] its signature, [`check_next`] its place in the feed.
//! What remains is a [`Message`] with the exact bytes in which it is stored and served.
//!
//! Source of every rule: ssb-validate 4.1 `index.js` and is-canonical-base64; where they speak of string lengths they
//! mean UTF-16 units.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::json::{self, JsonError, Kind, Value};
use crate::{FeedId, HmacKey, Keypair, MsgId, keys};

/// Longest signing text of a message, in UTF-16 units (ssb-validate `isInvalidShape`).
pub const MAX_LENGTH: usize = 8192;

/// Longest JSON that is looked at, in bytes. The signing text is the longer form of a message in UTF-16 units, but one
/// unit may have been written as a six-byte escape, and peers may put any white space around.
pub const MAX_INPUT: usize = 128 * 1024;

const SIGNATURE_SUFFIX: &[u8] = b".sig.ed25519";

/// Why a message is refused. The texts begin as ssb-validate's do where it has one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MessageError {
    /// The text is no JSON.
    #[error("invalid message: {0}")]
    Json(#[from] JsonError),
    /// More than [`MAX_INPUT`] bytes.
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
    /// The signing text is over [`MAX_LENGTH`] UTF-16 units long.
    #[error("Encoded message must not be larger than 8192 bytes. Current size is {length}")]
    TooLong {
        /// UTF-16 units.
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
    message: Message,
    signature: [u8; 64],
    /// What was signed: the text, or its authenticator under the network's signing key.
    signed: Vec<u8>,
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

/// Reads a message and checks all that needs neither its feed nor its signature.
///
/// `json` is the value, or `{key, value, …}` around it, whose key is not believed.
///
/// # Errors
/// What ssb-validate's `checkInvalidCheap` refuses, in its order.
pub fn parse_message(json: &[u8], hmac: Option<&HmacKey>) -> Result<Unverified, MessageError> {
    if json.len() > MAX_INPUT {
        return Err(MessageError::TooManyBytes { length: json.len() });
    }
    let document = json::parse(json)?;
    let mut root = document.root();
    if let (Some(value), None) = (root.get("value"), root.get("content")) {
        root = value;
    }
    let fields = Fields::read(root)?;
    let signature = fields.signature.ok_or(MessageError::SignatureType)?;
    let message = fields.check()?;

    let mut text = Vec::with_capacity(json.len() + 160);
    root.print_indented(&mut text, 0);
    let (length, key) = measure(&text);
    if length > MAX_LENGTH {
        return Err(MessageError::TooLong { length });
    }
    check_content(fields.content)?;

    let mut value = Vec::with_capacity(json.len());
    root.print(&mut value);
    // The signature is the last entry: without it and the comma before it, the text is what was signed.
    let tail = b",\n  \"signature\": \"\"\n}".len() + fields.signature_length;
    text.truncate(text.len() - tail);
    text.extend_from_slice(b"\n}");
    let signed = match hmac {
        Some(hmac) => hmac.authenticate(&text).to_vec(),
        None => text,
    };
    Ok(Unverified { message: Message { key, value: value.into(), ..message }, signature, signed })
}

/// The seven fields of a value, in an allowed order.
struct Fields<'d, 'a> {
    previous: Value<'d, 'a>,
    author: FeedId,
    sequence: Value<'d, 'a>,
    timestamp: Value<'d, 'a>,
    hash: Value<'d, 'a>,
    content: Value<'d, 'a>,
    /// `None` where the caller has not signed yet.
    signature: Option<[u8; 64]>,
    /// Characters between its quotes.
    signature_length: usize,
}

impl<'d, 'a> Fields<'d, 'a> {
    fn read(root: Value<'d, 'a>) -> Result<Self, MessageError> {
        if root.kind() != Kind::Object {
            return Err(MessageError::Shape("a message is an object"));
        }
        let author = root.get("author").and_then(|author| author.escaped()).ok_or(MessageError::Author)?;
        let author = FeedId::from_ascii(author).map_err(|_| MessageError::Author)?;
        let signature = root.get("signature").and_then(|text| text.escaped());
        let bytes = signature.and_then(parse_signature).ok_or(MessageError::SignatureType)?;
        let mut entries = root.entries();
        let mut next = || entries.next().ok_or(MessageError::KeyOrder);
        let (previous, one, two, timestamp, hash, content, last) =
            (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
        let sequence = match (one.0, two.0) {
            (b"author", b"sequence") => two.1,
            (b"sequence", b"author") => one.1,
            _ => return Err(MessageError::KeyOrder),
        };
        let rest: [&[u8]; 5] = [previous.0, timestamp.0, hash.0, content.0, last.0];
        let expected: [&[u8]; 5] = [b"previous", b"timestamp", b"hash", b"content", b"signature"];
        if rest != expected || next().is_ok() {
            return Err(MessageError::KeyOrder);
        }
        Ok(Fields {
            previous: previous.1,
            author,
            sequence,
            timestamp: timestamp.1,
            hash: hash.1,
            content: content.1,
            signature: Some(bytes),
            signature_length: signature.map_or(0, <[u8]>::len),
        })
    }

    /// The message but for key and value.
    fn check(&self) -> Result<Message, MessageError> {
        let sequence = self
            .sequence
            .number()
            .filter(|number| number.fract() == 0.0 && *number >= 1.0 && *number <= f64::from(i32::MAX))
            .ok_or(MessageError::Shape("sequence must be an integer from 1 to 2147483647"))?;
        let previous = match self.previous.kind() {
            Kind::Null => None,
            _ => Some(
                self.previous
                    .escaped()
                    .and_then(|text| MsgId::from_ascii(text).ok())
                    .ok_or(MessageError::Shape("previous must be null or a message id"))?,
            ),
        };
        let timestamp = self.timestamp.number().ok_or(MessageError::Shape("timestamp must be a number"))?;
        if self.hash.escaped() != Some(b"sha256") {
            return Err(MessageError::Shape("hash must be sha256"));
        }
        let known = match self.content.kind() {
            Kind::Object | Kind::Array => true,
            Kind::String => self.content.escaped().is_some_and(is_boxed),
            _ => false,
        };
        if !known {
            return Err(MessageError::Shape("content must be an object or a private box"));
        }
        Ok(Message {
            key: MsgId([0; 32]),
            author: self.author,
            sequence: sequence as u64,
            previous,
            timestamp,
            value: Bytes::new(),
        })
    }
}

fn check_content(content: Value<'_, '_>) -> Result<(), MessageError> {
    if content.kind() == Kind::String {
        return Ok(());
    }
    let kind = content.get("type");
    let units = kind.and_then(|kind| kind.escaped()).map_or(0, escaped_units);
    if (3..=52).contains(&units) {
        return Ok(());
    }
    let mut found = Vec::new();
    match kind {
        Some(kind) => kind.print(&mut found),
        None => found.extend_from_slice(b"undefined"),
    }
    Err(MessageError::ContentType { found: String::from_utf8_lossy(&found).chars().take(80).collect() })
}

/// UTF-16 units of a string, given as printed between its quotes.
fn escaped_units(escaped: &[u8]) -> usize {
    let mut units = 0;
    let mut at = 0;
    while at < escaped.len() {
        let (bytes, here) = match escaped[at] {
            b'\\' if escaped.get(at + 1) == Some(&b'u') => (6, 1),
            b'\\' => (2, 1),
            0..=0x7f => (1, 1),
            0xc0..=0xdf => (2, 1),
            0xe0..=0xef => (3, 1),
            _ => (4, 2),
        };
        at += bytes;
        units += here;
    }
    units
}

/// Length of a signing text in UTF-16 units, and the id: sha256 over each unit's low byte.
fn measure(text: &[u8]) -> (usize, MsgId) {
    if text.is_ascii() {
        return (text.len(), MsgId(Sha256::digest(text).into()));
    }
    let mut low = Vec::with_capacity(text.len());
    for char in std::str::from_utf8(text).unwrap_or_default().chars() {
        let mut units = [0; 2];
        low.extend(char.encode_utf16(&mut units).iter().map(|unit| *unit as u8));
    }
    (low.len(), MsgId(Sha256::digest(&low).into()))
}

fn parse_signature(text: &[u8]) -> Option<[u8; 64]> {
    let base64 = text.strip_suffix(SIGNATURE_SUFFIX).filter(|base64| base64.len() == 88)?;
    let mut bytes = [0; 66];
    match STANDARD.decode_slice(base64, &mut bytes) {
        Ok(64) => bytes.first_chunk().copied(),
        _ => None,
    }
}

/// Canonical base64, `.box`, and anything but a line break (JavaScript's `.`).
pub(crate) fn is_boxed(escaped: &[u8]) -> bool {
    let Some(dot) = escaped.iter().position(|byte| *byte == b'.') else { return false };
    let (base64, suffix) = escaped.split_at(dot);
    let line_break = |bytes: &[u8]| {
        bytes.windows(2).any(|pair| pair == b"\\n" || pair == b"\\r")
            || bytes.windows(3).any(|three| three == "\u{2028}".as_bytes() || three == "\u{2029}".as_bytes())
    };
    suffix.starts_with(b".box") && is_canonical_base64(base64) && !line_break(suffix)
}

fn is_canonical_base64(text: &[u8]) -> bool {
    if !text.len().is_multiple_of(4) {
        return false;
    }
    let body = match text {
        [body @ .., last, b'=', b'='] if b"AQgw".contains(last) => body,
        [body @ .., last, b'='] if b"AEIMQUYcgkosw048".contains(last) => body,
        body => body,
    };
    body.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Checks that `message` follows `tip`, the feed's newest message.
///
/// # Errors
/// [`MessageError::Sequence`] if it doesn't follow, [`MessageError::Fork`] if it follows another message.
pub fn check_next(tip: Option<&FeedTip>, message: &Message) -> Result<(), MessageError> {
    let author = message.author;
    let expected = tip.map_or(1, |tip| tip.sequence + 1);
    if message.sequence != expected {
        return Err(MessageError::Sequence { author, expected, found: message.sequence });
    }
    if message.previous != tip.map(|tip| tip.key) {
        return Err(MessageError::Fork { author, sequence: message.sequence });
    }
    Ok(())
}

/// Signs the message of `keys` that follows `tip`.
///
/// `content` is JSON: an object with a `type`, or the string of a private box. `timestamp` is in ms since 1970.
///
/// # Errors
/// What [`parse_message`] refuses: a bad type, too long, no JSON.
pub fn create_message(
    keys: &Keypair,
    hmac: Option<&HmacKey>,
    tip: Option<&FeedTip>,
    content: &[u8],
    timestamp: f64,
) -> Result<Message, MessageError> {
    let content = json::parse(content)?;
    let content = content.root();
    match content.kind() {
        Kind::Object | Kind::Array => {}
        Kind::String if content.escaped().is_some_and(is_boxed) => {}
        _ => return Err(MessageError::Shape("content must be an object or a private box")),
    }
    check_content(content)?;
    let mut number = ryu_js::Buffer::new();
    let (author, sequence) = (keys.id(), tip.map_or(1, |tip| tip.sequence + 1));
    let previous = tip.map_or("null".to_owned(), |tip| format!("\"{}\"", tip.key));
    let timestamp_text = number.format_finite(timestamp);
    let mut text = format!(
        "{{\n  \"previous\": {previous},\n  \"author\": \"{author}\",\n  \"sequence\": {sequence},\n  \
         \"timestamp\": {timestamp_text},\n  \"hash\": \"sha256\",\n  \"content\": "
    )
    .into_bytes();
    content.print_indented(&mut text, 1);
    let mut signed = text.clone();
    signed.extend_from_slice(b"\n}");
    let signature = match hmac {
        Some(hmac) => keys.sign(&hmac.authenticate(&signed)),
        None => keys.sign(&signed),
    };
    let signature = STANDARD.encode(signature);
    text.extend_from_slice(format!(",\n  \"signature\": \"{signature}.sig.ed25519\"\n}}").as_bytes());
    let (length, key) = measure(&text);
    if length > MAX_LENGTH {
        return Err(MessageError::TooLong { length });
    }
    let mut value = format!(
        "{{\"previous\":{previous},\"author\":\"{author}\",\"sequence\":{sequence},\"timestamp\":{timestamp_text},\
         \"hash\":\"sha256\",\"content\":"
    )
    .into_bytes();
    content.print(&mut value);
    value.extend_from_slice(format!(",\"signature\":\"{signature}.sig.ed25519\"}}").as_bytes());
    let previous = tip.map(|tip| tip.key);
    Ok(Message { key, author, sequence, previous, timestamp, value: value.into() })
}

impl Message {
    /// Takes the fields out of a value that was verified before it was stored.
    ///
    /// Nothing is hashed or verified: for our own log alone.
    ///
    /// # Errors
    /// [`MessageError`] if the bytes are not a message at all: the log is damaged.
    pub fn trusted(key: MsgId, value: Bytes) -> Result<Message, MessageError> {
        let document = json::parse(&value)?;
        let message = Fields::read(document.root())?.check()?;
        drop(document);
        Ok(Message { key, value, ..message })
    }

    /// The raw JSON of `content`: a slice of the value.
    pub fn content(&self) -> &[u8] {
        content_of(&self.value)
    }
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
    out.extend_from_slice(ryu_js::Buffer::new().format_finite(received).as_bytes());
    out.push(b'}');
}
