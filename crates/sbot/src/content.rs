//! What the API needs to know of a message's content without building a tree of it.
//!
//! The raw content is cut out of the stored bytes; its fields are read one level at a time, which also copes with lone
//! surrogates that a tree of Rust strings couldn't hold.
//!
//! Source: `ssb-ref/index.js` (what is a link).

use std::collections::BTreeMap;

use memchr::memmem;
pub(crate) use sbot_feed::content_of as raw_content;
use sbot_feed::{BlobId, FeedId, MsgId};
use serde_json::value::RawValue;

/// The text of a `.box…` content, without its quotes, or `None` if the content isn't encrypted.
///
/// Such a text is base64 and a suffix, so it holds no escapes.
#[must_use]
pub(crate) fn boxed(content: &[u8]) -> Option<&str> {
    let inner = content.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(inner).ok()
}

/// The members of a JSON object, each as its raw text. Of repeated names the last one counts.
fn members(json: &[u8]) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_slice(json).ok()
}

/// The string in a raw JSON text, or `None` if it isn't one, or one that Rust can't hold.
fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The content's `type`.
#[must_use]
pub(crate) fn kind(content: &[u8]) -> Option<String> {
    string(members(content)?.get("type")?)
}

/// A quick look: whether the content can be of the type whose JSON text is `quoted`. Says yes too often, never no wrongly.
#[must_use]
pub(crate) fn may_be_of_type(content: &[u8], quoted: &[u8]) -> bool {
    memmem::find_iter(content, b"\"type\":")
        .any(|at| content.get(at + b"\"type\":".len()..).is_some_and(|rest| rest.starts_with(quoted)))
}

/// Whether a string is a link: the id of a feed, a message or a blob, maybe followed by `?` and a query.
#[must_use]
pub(crate) fn is_link(text: &str) -> bool {
    let id = text.split_once('?').map_or(text, |(id, _)| id);
    match id.as_bytes().first() {
        Some(b'@') => id.parse::<FeedId>().is_ok(),
        Some(b'%') => id.parse::<MsgId>().is_ok(),
        Some(b'&') => id.parse::<BlobId>().is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_content_is_a_string() {
        assert_eq!(boxed(br#""abc==.box""#), Some("abc==.box"));
        assert_eq!(boxed(br#"{"type":"post"}"#), None);
    }

    #[test]
    fn a_lone_surrogate_hides_no_type() {
        assert_eq!(kind(br#"{"type":"post","text":"\ud83d"}"#).as_deref(), Some("post"));
    }

    #[test]
    fn ids_are_links_with_and_without_a_query() {
        let blob = "&pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256";
        assert!(is_link(blob) && is_link(&format!("{blob}?unbox=x")));
        assert!(!is_link("&x.sha256") && !is_link(""));
    }

    #[test]
    fn the_quick_look_never_misses_a_type() {
        assert!(may_be_of_type(br#"{"a":{"type":"x"},"type":"about"}"#, b"\"about\""));
        assert!(!may_be_of_type(br#"{"type":"aboutness"}"#, b"\"about\""));
    }
}
