//! The rules of a classic message, all but those that need its feed.
//!
//! Source of every rule: ssb-validate 4.1 `index.js` and is-canonical-base64; where they speak of string lengths they
//! mean UTF-16 units. Stricter than they are, as ssb-classic 1.1 `validation.js` is too: `timestamp` must be a number in
//! every message (ssb-validate asks it of the first alone), and `previous` null or the text of an id (ssb-validate's `!=`
//! takes an array around one).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::json::{self, Kind, Value};
use crate::message::{Message, MessageError, SIGNATURE_SUFFIX, Unverified};
use crate::{FeedId, HmacKey, MsgId};

/// Longest signing text of a message, in UTF-16 units (ssb-validate `isInvalidShape`).
pub const MAX_LENGTH: usize = 8192;

/// Longest JSON that is looked at, in bytes. The signing text is the longer form of a message in UTF-16 units, but one
/// unit may have been written as a six-byte escape, and peers may put any white space around.
pub const MAX_INPUT: usize = 128 * 1024;

/// Indented texts are printed this far at most, in bytes: deep nesting makes them quadratically longer than the input.
pub(crate) const MAX_TEXT: usize = 1024 * 1024;

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
    let message = fields.check()?;

    let mut text = Vec::with_capacity(json.len() + 160);
    let whole = root.print_indented_up_to(&mut text, 0, MAX_TEXT);
    let (length, key) = measure(&text);
    if length > MAX_LENGTH || !whole {
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
    Ok(Unverified { message: Message { key, value: value.into(), ..message }, signature: fields.signature, signed })
}

/// The fields of a value that may be printed in any way; neither key nor value, and the length unbounded.
pub(crate) fn parse_fields(json: &[u8]) -> Result<Message, MessageError> {
    Fields::read(json::parse(json)?.root())?.check()
}

/// The id that any JSON has as a message's value, valid or not (ssb-validate `id`).
///
/// # Errors
/// [`MessageError::Json`], or [`MessageError::TooLong`] if its indented text is over a mebibyte long.
pub fn message_id(json: &[u8]) -> Result<MsgId, MessageError> {
    let document = json::parse(json)?;
    let mut text = Vec::with_capacity(json.len() + 160);
    let whole = document.root().print_indented_up_to(&mut text, 0, MAX_TEXT);
    let (length, id) = measure(&text);
    if whole { Ok(id) } else { Err(MessageError::TooLong { length }) }
}

/// The seven fields of a value, in an allowed order.
struct Fields<'d, 'a> {
    previous: Value<'d, 'a>,
    author: FeedId,
    sequence: Value<'d, 'a>,
    timestamp: Value<'d, 'a>,
    hash: Value<'d, 'a>,
    content: Value<'d, 'a>,
    signature: [u8; 64],
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
            signature: bytes,
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

pub(crate) fn check_content(content: Value<'_, '_>) -> Result<(), MessageError> {
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
pub(crate) fn measure(text: &[u8]) -> (usize, MsgId) {
    if text.is_ascii() {
        return (text.len(), MsgId(Sha256::digest(text).into()));
    }
    let low = low_bytes(text);
    (low.len(), MsgId(Sha256::digest(&low).into()))
}

/// The low byte of each UTF-16 unit of a UTF-8 text: node's `latin1` view of a string.
fn low_bytes(text: &[u8]) -> Vec<u8> {
    let mut low = Vec::with_capacity(text.len());
    // The last six bits of a character and the two before them.
    let last = |one: u8, two: u8| (one & 3) << 6 | (two & 0x3f);
    let mut rest = text;
    loop {
        if let Some((eight, after)) = rest.split_first_chunk::<8>()
            && eight.is_ascii()
        {
            low.extend_from_slice(eight);
            rest = after;
            continue;
        }
        rest = match *rest {
            [] => return low,
            [a @ 0..=0x7f, ref after @ ..] => {
                low.push(a);
                after
            }
            [a @ 0xc0..=0xdf, b, ref after @ ..] => {
                low.push(last(a, b));
                after
            }
            [0xe0..=0xef, b, c, ref after @ ..] => {
                low.push(last(b, c));
                after
            }
            [a, b, c, d, ref after @ ..] => {
                let code = u32::from(a & 7) << 18 | u32::from(b & 0x3f) << 12 | u32::from(c & 0x3f) << 6;
                low.extend([(code.wrapping_sub(0x10000) >> 10) as u8, last(c, d)]);
                after
            }
            // No UTF-8 ends within a character.
            _ => return low,
        };
    }
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
    suffix.starts_with(b".box") && is_canonical_base64(base64) && !has_line_break(suffix)
}

/// Whether an escaped string holds one of JavaScript's line terminators.
fn has_line_break(escaped: &[u8]) -> bool {
    let mut rest = escaped;
    loop {
        rest = match rest {
            [] => return false,
            [b'\\', b'n' | b'r', ..] | [0xe2, 0x80, 0xa8 | 0xa9, ..] => return true,
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn low_bytes_are_those_of_the_utf_16_units(text in ".*", more in "[a-z]{0,12}[\u{80}-\u{10ffff}]{0,3}[a-z]{0,20}") {
            for text in [text, more] {
                let expected: Vec<u8> = text.encode_utf16().map(|unit| unit as u8).collect();
                proptest::prop_assert_eq!(low_bytes(text.as_bytes()), expected);
            }
        }
    }

    #[test]
    fn box_strings_are_canonical_base64_with_a_box_suffix() {
        for good in
            [".box", "AAAA.box", "AAAA.box2", "AA==.box", "AAA=.box", "AAAA.boxx y", r"AAAA.box\\n", "AA/+.box\\\""]
        {
            assert!(is_boxed(good.as_bytes()), "{good}");
        }
        for bad in ["", "AAAA", "AAA.box", "AB==.box", "AAB=.box", "A===.box", "AA=A.box", "AAAA.bo", "AAA-.box"] {
            assert!(!is_boxed(bad.as_bytes()), "{bad}");
        }
        for bad in [r"AAAA.box\n", r"AAAA.box\r", r"AAAA.box\\\n", "AAAA.box\u{2028}", "AAAA.boxé\u{2029}x"] {
            assert!(!is_boxed(bad.as_bytes()), "{bad}");
        }
    }
}
