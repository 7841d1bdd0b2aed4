//! Making and signing messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::json::{self, Kind};
use crate::message::{FeedTip, Message, MessageError};
use crate::rules::{MAX_LENGTH, MAX_TEXT, check_content, is_boxed, measure};
use crate::{HmacKey, Keypair};

/// Signs the message of `keys` that follows `tip`.
///
/// `content` is JSON: an object with a `type`, or the string of a private box. `timestamp` is in ms since 1970.
///
/// # Errors
/// What [`parse_message`](crate::parse_message) refuses: a bad type, too long, no JSON.
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
    if !timestamp.is_finite() {
        return Err(MessageError::Shape("timestamp must be a number"));
    }
    let sequence = tip.map_or(1, |tip| tip.sequence.saturating_add(1));
    if sequence > i32::MAX as u64 {
        return Err(MessageError::Shape("sequence must be an integer from 1 to 2147483647"));
    }
    let author = keys.id();
    let previous = tip.map_or("null".to_owned(), |tip| format!("\"{}\"", tip.key));
    let mut number = ryu_js::Buffer::new();
    let timestamp_text = number.format_finite(timestamp);
    let mut text = format!(
        "{{\n  \"previous\": {previous},\n  \"sequence\": {sequence},\n  \"author\": \"{author}\",\n  \
         \"timestamp\": {timestamp_text},\n  \"hash\": \"sha256\",\n  \"content\": "
    )
    .into_bytes();
    let whole = content.print_indented_up_to(&mut text, 1, MAX_TEXT);
    let mut signed = text.clone();
    signed.extend_from_slice(b"\n}");
    let signature = match hmac {
        Some(hmac) => keys.sign(&hmac.authenticate(&signed)),
        None => keys.sign(&signed),
    };
    let signature = STANDARD.encode(signature);
    text.extend_from_slice(format!(",\n  \"signature\": \"{signature}.sig.ed25519\"\n}}").as_bytes());
    let (length, key) = measure(&text);
    if length > MAX_LENGTH || !whole {
        return Err(MessageError::TooLong { length });
    }
    let mut value = format!(
        "{{\"previous\":{previous},\"sequence\":{sequence},\"author\":\"{author}\",\"timestamp\":{timestamp_text},\
         \"hash\":\"sha256\",\"content\":"
    )
    .into_bytes();
    content.print(&mut value);
    value.extend_from_slice(format!(",\"signature\":\"{signature}.sig.ed25519\"}}").as_bytes());
    let previous = tip.map(|tip| tip.key);
    Ok(Message { key, author, sequence, previous, timestamp, value: value.into() })
}
