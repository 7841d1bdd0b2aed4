//! What the API needs to know of a message's content without building a tree of it.
//!
//! The raw content is cut out of the stored bytes; its fields are read one level at a time, which also copes with lone
//! surrogates that a tree of Rust strings couldn't hold.
//!
//! Sources: `ssb-msgs/index.js` (links), `ssb-ref/index.js` (what is a link), `ssb-friends/contacts.js`.

use std::collections::{BTreeMap, BTreeSet};

use memchr::memmem;
pub use sbot_feed::content_of as raw_content;
use sbot_feed::{BlobId, FeedId, MsgId};
use serde_json::value::RawValue;

/// The text of a `.box…` content, without its quotes, or `None` if the content isn't encrypted.
///
/// Such a text is base64 and a suffix, so it holds no escapes.
#[must_use]
pub fn boxed(content: &[u8]) -> Option<&str> {
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
pub fn kind(content: &[u8]) -> Option<String> {
    string(members(content)?.get("type")?)
}

/// A quick look: whether the content can be of the type whose JSON text is `quoted`. Says yes too often, never no wrongly.
#[must_use]
pub fn may_be_of_type(content: &[u8], quoted: &[u8]) -> bool {
    memmem::find_iter(content, b"\"type\":")
        .any(|at| content.get(at + b"\"type\":".len()..).is_some_and(|rest| rest.starts_with(quoted)))
}

/// Whether a string is a link: the id of a feed, a message or a blob, maybe followed by `?` and a query.
#[must_use]
pub fn is_link(text: &str) -> bool {
    let id = text.split_once('?').map_or(text, |(id, _)| id);
    match id.as_bytes().first() {
        Some(b'@') => id.parse::<FeedId>().is_ok(),
        Some(b'%') => id.parse::<MsgId>().is_ok(),
        Some(b'&') => id.parse::<BlobId>().is_ok(),
        _ => false,
    }
}

/// The links in a content as (field, target), sorted and each once.
#[must_use]
pub fn links(content: &[u8]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let Some(mut fields) = members(content) else { return found };
    if let Some(inner) = inner_content(&fields) {
        fields = inner;
    }
    for (rel, value) in fields {
        let mut note = |raw: &RawValue| {
            if let Some(target) = target(raw) {
                found.insert((rel.clone(), target));
            }
        };
        match elements(value) {
            Some(elements) => elements.into_iter().for_each(&mut note),
            None => note(value),
        }
    }
    found
}

/// A content that looks like a whole message is taken for one: its own content holds the links.
fn inner_content<'a>(fields: &BTreeMap<String, &'a RawValue>) -> Option<BTreeMap<String, &'a RawValue>> {
    let typed = |raw: &'a RawValue| members(raw.get().as_bytes()).filter(|inner| inner.contains_key("type"));
    let from_value = || {
        let value = members(fields.get("value")?.get().as_bytes())?;
        typed(value.get("content")?)
    };
    from_value().or_else(|| typed(fields.get("content")?))
}

/// The elements of an array, or of an object whose keys count up from 0.
fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    let text = raw.get();
    if text.starts_with('[') {
        return serde_json::from_str(text).ok();
    }
    if !text.starts_with('{') {
        return None;
    }
    let fields = members(text.as_bytes())?;
    let counted: Vec<_> = (0..fields.len()).map_while(|n| fields.get(&n.to_string()).copied()).collect();
    (!counted.is_empty()).then_some(counted)
}

/// Where one link leads: a string, or an object's `link`.
fn target(raw: &RawValue) -> Option<String> {
    let text = raw.get();
    let target = if text.starts_with('"') {
        string(raw)?
    } else if text.starts_with('{') {
        string(members(text.as_bytes())?.get("link")?)?
    } else {
        return None;
    };
    is_link(&target).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: &str = "@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519";
    const MSG: &str = "%yJslVqIaRU7jTybjkjyT6Aw776WJjp3r5PXw4AzM2NA=.sha256";
    const BLOB: &str = "&pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256";

    #[test]
    fn an_encrypted_content_is_a_string() {
        assert_eq!(boxed(br#""abc==.box""#), Some("abc==.box"));
        assert_eq!(boxed(br#"{"type":"post"}"#), None);
    }

    #[test]
    fn links_are_found_in_strings_objects_and_lists() {
        let content = format!(
            r#"{{"type":"post","root":"{MSG}","vote":{{"link":"{MSG}","value":1}},"mentions":["{FEED}",{{"link":"{BLOB}?x=1"}},null,5,"{FEED}"],"text":"{MSG} inside","recps":{{"0":"{FEED}"}}}}"#
        );
        let found: Vec<_> = links(content.as_bytes()).into_iter().collect();
        let expected = [
            ("mentions", format!("{BLOB}?x=1")),
            ("mentions", FEED.to_owned()),
            ("recps", FEED.to_owned()),
            ("root", MSG.to_owned()),
            ("vote", MSG.to_owned()),
        ];
        assert_eq!(found, expected.map(|(rel, to)| (rel.to_owned(), to)));
    }

    #[test]
    fn a_lone_surrogate_elsewhere_hides_no_link() {
        let content = format!(r#"{{"type":"post","text":"\ud83d","root":"{MSG}"}}"#);
        assert_eq!(links(content.as_bytes()).len(), 1);
        assert_eq!(kind(content.as_bytes()).as_deref(), Some("post"));
    }

    #[test]
    fn the_quick_look_never_misses_a_type() {
        assert!(may_be_of_type(br#"{"a":{"type":"x"},"type":"about"}"#, b"\"about\""));
        assert!(!may_be_of_type(br#"{"type":"aboutness"}"#, b"\"about\""));
    }
}
