//! What a contact message says.
//!
//! Source: ssb-friends 5 `db2-contacts.js`, which wants `type` to be `contact`; 4.1 `contacts.js` takes any message with
//! a `contact` field. Both read the rest alike.

use sbot_feed::FeedId;
use sbot_feed::json::{self, Kind, Value};

use crate::Relation;

/// The feed that a contact message's content (raw JSON) speaks of, and what it says; `None` if it is none.
///
/// `blocking` or `flagged` that JavaScript takes for true is a block, else `following: true` a follow, else neither.
#[must_use]
pub fn contact_from_content(content: &[u8]) -> Option<(FeedId, Relation)> {
    let document = json::parse(content).ok()?;
    let root = document.root();
    if root.kind() != Kind::Object || root.get("type")?.printed() != b"\"contact\"" {
        return None;
    }
    let contact = root.get("contact").filter(|value| value.kind() == Kind::String)?;
    let feed = FeedId::from_ascii(contact.escaped()?).ok()?;
    let truthy = |key| root.get(key).is_some_and(|value| is_truthy(&value));
    let relation = if truthy("blocking") || truthy("flagged") {
        Relation::Block
    } else if root.get("following").is_some_and(|value| value.printed() == b"true") {
        Relation::Follow
    } else {
        Relation::None
    };
    Some((feed, relation))
}

fn is_truthy(value: &Value<'_, '_>) -> bool {
    match value.kind() {
        Kind::Null => false,
        Kind::Boolean => value.printed() == b"true",
        Kind::Number => value.number().is_some_and(|number| number != 0.0 && !number.is_nan()),
        Kind::String => value.printed() != b"\"\"",
        Kind::Array | Kind::Object => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: &str = "@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519";

    fn relation(rest: &str) -> Option<Relation> {
        let content = format!("{{\"type\":\"contact\",\"contact\":\"{FEED}\"{rest}}}");
        contact_from_content(content.as_bytes()).map(|(feed, relation)| {
            assert_eq!(feed, FEED.parse().unwrap());
            relation
        })
    }

    #[test]
    fn only_following_true_follows() {
        assert_eq!(relation(",\"following\":true"), Some(Relation::Follow));
        for other in ["", ",\"following\":1", ",\"following\":\"true\"", ",\"following\":false", ",\"following\":null"]
        {
            assert_eq!(relation(other), Some(Relation::None), "{other}");
        }
    }

    #[test]
    fn whatever_javascript_takes_for_true_blocks_even_beside_a_follow() {
        for block in ["\"blocking\":true", "\"flagged\":{\"reason\":\"spam\"}", "\"blocking\":1", "\"flagged\":\"x\""] {
            assert_eq!(relation(&format!(",\"following\":true,{block}")), Some(Relation::Block), "{block}");
        }
        for none in ["\"blocking\":0", "\"flagged\":\"\"", "\"blocking\":null", "\"blocking\":false"] {
            assert_eq!(relation(&format!(",\"following\":true,{none}")), Some(Relation::Follow), "{none}");
        }
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(relation(",\"following\":true,\"following\":false"), Some(Relation::None));
    }

    #[test]
    fn other_contents_say_nothing() {
        for other in [
            "\"abc.box\"",
            "{\"type\":\"contact\"}",
            "{\"type\":\"contact\",\"contact\":7,\"following\":true}",
            "{\"type\":\"contact\",\"contact\":\"@nobody\",\"following\":true}",
            "{\"type\":\"post\",\"contact\":\"@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519\"}",
            "{\"contact\":\"@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519\",\"following\":true}",
            "[]",
            "",
            "{",
            "{\"type\":\"contact\",\"contact\":\"\\ud83d\"}",
        ] {
            assert_eq!(contact_from_content(other.as_bytes()), None, "{other}");
        }
    }
}
