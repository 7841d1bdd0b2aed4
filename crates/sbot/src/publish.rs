//! The one place where messages of our own are made.
//!
//! [`Publisher::publish`] takes a content, boxes it if it names recipients, stamps, signs and appends it; the answer comes
//! when the message is on disk. One at a time: the next message needs the id of the one before. A [`Guard`] may forbid
//! publishing, as long as peers might hold newer messages of ours than we do (an identity restored from a backup): a
//! message made then would fork the feed for good.
//!
//! Sources: `ssb-db/{minimal,autobox}.js`, `ssb-private1/box1.js`, `ssb-validate/index.js` (the sentences of refusals),
//! `monotonic-timestamp`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sbot_feed::json::Kind;
use sbot_feed::private_box::BoxSeed;
use sbot_feed::{FeedId, HmacKey, Keypair, MessageError, create_message, json, private_box};
use sbot_store::{Record, Store};

use crate::api::Failure;

/// Says why nothing may be published yet, if so.
pub type Guard = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// How many may read a private message (`DEFAULT_MAX` in `private-box/index.js`).
pub const MAX_RECIPIENTS: usize = 7;

/// What the signature adds to a message's JSON, in UTF-16 units: `,\n  "signature": "…"`.
const SIGNATURE_LENGTH: usize = 119;

/// The longest message, in UTF-16 units of its two-space JSON.
const MAX_LENGTH: usize = 8192;

/// Makes messages of our own.
pub struct Publisher {
    store: Store,
    keys: Keypair,
    hmac: Option<HmacKey>,
    guard: Guard,
    clock: Clock,
    last: tokio::sync::Mutex<Monotonic>,
}

/// Tells the time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> f64 + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // whole milliseconds, as Date.now() gives
        since.as_millis() as f64
    })
}

impl Publisher {
    /// Signs with `keys` and appends to `store`.
    #[must_use]
    pub fn new(store: Store, keys: Keypair, hmac: Option<HmacKey>, clock: Clock, guard: Guard) -> Self {
        Self { store, keys, hmac, guard, clock, last: tokio::sync::Mutex::default() }
    }

    /// Publishes a content, given as JSON: an object with a `type`, or a string that is encrypted already.
    ///
    /// # Errors
    /// The sentences of `ssb-validate` and `ssb-db` for a content that can't be published, the guard's, and what the
    /// store meets.
    pub async fn publish(&self, content: &[u8]) -> Result<Record, Failure> {
        let content = box_if_asked(content)?;
        check_content(&content)?;
        let mut last = self.last.lock().await;
        (self.guard)().map_err(Failure::new)?;
        let tip = self.store.tip(&self.keys.id());
        let time = last.next((self.clock)());

        let message = create_message(&self.keys, self.hmac.as_ref(), tip.as_ref(), &content, time)
            .map_err(|error| refusal(&error))?;
        self.store.append_own(message).await.map_err(|error| Failure::new(error.to_string()))
    }

    /// Publishes a content for the given readers only.
    ///
    /// # Errors
    /// As [`Publisher::publish`], and for more than [`MAX_RECIPIENTS`] readers.
    pub async fn publish_private(&self, content: &[u8], readers: &[FeedId]) -> Result<Record, Failure> {
        let document = json::parse(content).map_err(|error| Failure::new(error.to_string()))?;
        let sealed = seal(print(&document.root()).as_bytes(), readers)?;
        self.publish(&sealed).await
    }
}

/// Boxes a content that names recipients in `recps`; any other is taken as it is. Answers it as `JSON.stringify` prints it.
fn box_if_asked(content: &[u8]) -> Result<Vec<u8>, Failure> {
    let document = json::parse(content).map_err(|error| Failure::new(error.to_string()))?;
    let root = document.root();
    let mut printed = Vec::with_capacity(content.len());
    let Some(recps) = root.get("recps").filter(is_truthy) else {
        root.print(&mut printed);
        return Ok(printed);
    };
    let items: Vec<json::Value<'_, '_>> = match recps.kind() {
        Kind::String => vec![recps],
        Kind::Array => recps.items().collect(),
        _ => return Err(Failure::new("private message field \"recps\" expects an Array of recipients")),
    };
    if items.is_empty() {
        return Err(Failure::new("private message field \"recps\" requires at least one recipient"));
    }
    let readers: Option<Vec<FeedId>> =
        items.iter().map(|item| item.escaped().and_then(|id| FeedId::from_ascii(id).ok())).collect();
    let Some(readers) = readers else {
        let list: Vec<_> = items.iter().map(print).collect();
        return Err(Failure::new(format!(
            "private message requested, but no boxers could encrypt these recps: [{}]",
            list.join(",")
        )));
    };
    // what is boxed names its readers in a list, even if it was one string
    printed.push(b'{');
    for (at, (key, value)) in root.entries().enumerate() {
        if at > 0 {
            printed.push(b',');
        }
        printed.push(b'"');
        printed.extend_from_slice(key);
        printed.extend_from_slice(b"\":");
        if key == b"recps" && value.kind() == Kind::String {
            printed.push(b'[');
            value.print(&mut printed);
            printed.push(b']');
        } else {
            value.print(&mut printed);
        }
    }
    printed.push(b'}');
    seal(&printed, &readers)
}

/// Boxes a content for its readers; answers the box as a JSON string.
fn seal(content: &[u8], readers: &[FeedId]) -> Result<Vec<u8>, Failure> {
    if readers.len() > MAX_RECIPIENTS {
        return Err(Failure::new(format!("max recipients is:{MAX_RECIPIENTS} found:{}", readers.len())));
    }
    let sealed =
        private_box::seal(content, readers, &BoxSeed::generate()).map_err(|error| Failure::new(error.to_string()))?;
    // base64 and a suffix: nothing to escape
    Ok(format!("\"{sealed}\"").into_bytes())
}

/// Refuses what can't be a content, in the words of `ssb-validate`.
fn check_content(content: &[u8]) -> Result<(), Failure> {
    let document = json::parse(content).map_err(|error| Failure::new(error.to_string()))?;
    let root = document.root();
    match root.kind() {
        Kind::Object | Kind::Array => {}
        // whether a string is a box is for the feed to say
        Kind::String => return Ok(()),
        _ => return Err(no_content()),
    }
    let kind = root.get("type");
    let length = kind
        .and_then(|kind| serde_json::from_slice::<String>(kind.printed()).ok())
        .map(|kind| kind.encode_utf16().count());
    if length.is_some_and(|length| (3..=52).contains(&length)) {
        return Ok(());
    }
    let shown = kind.map_or_else(|| "undefined".to_owned(), |kind| coerced(&kind));
    Err(Failure::new(format!("type must be a string3 <= type.length < 52, was:{shown}")))
}

fn no_content() -> Failure {
    Failure::new("invalid message content, must be object or encrypted string")
}

/// A value as JavaScript puts it into a string.
fn coerced(value: &json::Value<'_, '_>) -> String {
    match value.kind() {
        Kind::Object => "[object Object]".into(),
        Kind::Array => value.items().map(|item| coerced(&item)).collect::<Vec<_>>().join(","),
        Kind::String => String::from_utf8_lossy(value.escaped().unwrap_or_default()).into_owned(),
        _ => print(value),
    }
}

fn print(value: &json::Value<'_, '_>) -> String {
    let mut text = Vec::new();
    value.print(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn is_truthy(value: &json::Value<'_, '_>) -> bool {
    match value.kind() {
        Kind::Null => false,
        Kind::Boolean => value.printed() == b"true",
        Kind::Number => value.number().is_some_and(|number| number != 0.0),
        Kind::String => value.escaped().is_some_and(|text| !text.is_empty()),
        Kind::Array | Kind::Object => true,
    }
}

/// What the feed refuses, in the words of `ssb-validate`, which measures a message before it is signed and again after.
fn refusal(error: &MessageError) -> Failure {
    match error {
        MessageError::TooLong { length } => {
            let unsigned = length.saturating_sub(SIGNATURE_LENGTH);
            let length = if unsigned > MAX_LENGTH { unsigned } else { *length };
            Failure::new(MessageError::TooLong { length }.to_string())
        }
        MessageError::Shape(_) => no_content(),
        other => Failure::new(other.to_string()),
    }
}

/// Timestamps that are all different: the clock's, with a fraction added to those that fall into one millisecond
/// (`monotonic-timestamp`).
#[derive(Debug, Default)]
struct Monotonic {
    time: f64,
    count: u32,
    given: f64,
}

impl Monotonic {
    fn next(&mut self, now: f64) -> f64 {
        if now != self.time {
            *self = Self { time: now, count: 1, given: now };
            return now;
        }
        loop {
            let fraction = f64::from(self.count) / f64::from(self.count + 1000);
            self.count += 1;
            let time = now + fraction;
            if time != self.given {
                self.given = time;
                return time;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: &str = "@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519";

    fn check(content: &str) -> String {
        box_if_asked(content.as_bytes()).and_then(|content| check_content(&content)).unwrap_err().message
    }

    #[test]
    fn contents_that_cannot_be_published_are_refused_in_the_known_words() {
        for (content, shown) in [
            ("{}", "undefined"),
            (r#"{"type":5}"#, "5"),
            (r#"{"type":"ab"}"#, "ab"),
            ("[]", "undefined"),
            (r#"{"type":{}}"#, "[object Object]"),
        ] {
            assert_eq!(check(content), format!("type must be a string3 <= type.length < 52, was:{shown}"));
        }
        assert_eq!(check("5"), "invalid message content, must be object or encrypted string");
        let private = |recps: &str| check(&format!(r#"{{"type":"post","recps":{recps}}}"#));
        assert_eq!(private("[]"), "private message field \"recps\" requires at least one recipient");
        assert_eq!(private("5"), "private message field \"recps\" expects an Array of recipients");
        assert_eq!(
            private(r#"["x",{"link":1}]"#),
            r#"private message requested, but no boxers could encrypt these recps: ["x",{"link":1}]"#
        );
        let eight = format!("[{}]", vec![format!("\"{READER}\""); 8].join(","));
        assert_eq!(private(&eight), "max recipients is:7 found:8");
    }

    #[test]
    fn recipients_make_a_content_private_and_falsy_ones_do_not() {
        let one = box_if_asked(format!(r#"{{"type":"post","recps":"{READER}"}}"#).as_bytes()).unwrap();
        assert!(one.ends_with(b".box\""));
        assert_eq!(box_if_asked(br#"{"type":"post", "recps":""}"#).unwrap(), br#"{"type":"post","recps":""}"#);
    }

    #[test]
    fn timestamps_within_a_millisecond_all_differ() {
        let mut last = Monotonic::default();
        let given: Vec<f64> = (0..2000).map(|n| last.next(1_600_000_000_000.0 + f64::from(n / 1000))).collect();
        assert!(given.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(given[0], 1_600_000_000_000.0);
        assert_eq!(given[1], 1_600_000_000_000.001);
    }
}
