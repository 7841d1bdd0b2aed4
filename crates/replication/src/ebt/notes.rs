//! What travels on an EBT stream: notes and messages.
//!
//! A note says how far one side is with a feed: −1 for "I don't replicate it", else `sequence << 1`, with the low bit set
//! for "don't send it, I only tell you". Notes come as one JSON object, feed id → note, possibly within `{"clock": …}`.
//! Messages come as bare values on the same stream.
//!
//! Source: epidemic-broadcast-trees `v3.js`, `events.js` (`notes`), `stream.js` (`isMsg`).

use bytes::Bytes;
use sbot_feed::FeedId;
use sbot_feed::json::{self, Kind, Value};

/// The highest sequence that a note can carry: JavaScript shifts in 32 bits.
pub const MAX_SEQUENCE: u32 = (1 << 30) - 1;

/// Most notes that are read from one object; others are ignored. Public hubs know some 20,000 feeds.
pub const MAX_NOTES: usize = 65_536;

/// What one side says of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Note {
    /// It doesn't replicate the feed.
    Refused,
    /// It has the feed up to `sequence` (0: nothing of it); `send` asks for what follows.
    At {
        /// How far it is, at most [`MAX_SEQUENCE`].
        sequence: u32,
        /// Whether it wants to be sent what follows.
        send: bool,
    },
}

impl Note {
    /// The note as it travels.
    #[must_use]
    pub fn to_number(self) -> i64 {
        match self {
            Note::Refused => -1,
            Note::At { sequence, send } => i64::from(sequence.min(MAX_SEQUENCE)) << 1 | i64::from(!send),
        }
    }

    /// Reads a note; `None` for what no side sends: other negative numbers, fractions, more than 31 bits.
    #[must_use]
    pub fn from_number(number: f64) -> Option<Note> {
        if number == -1.0 {
            return Some(Note::Refused);
        }
        if number.fract() != 0.0 || !(0.0..=f64::from(i32::MAX)).contains(&number) {
            return None;
        }
        // an integer within 31 bits by now
        let number = number as u32;
        Some(Note::At { sequence: number >> 1, send: number & 1 == 0 })
    }
}

/// Notes as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The valid ones, in the order in which JavaScript sees them.
    pub notes: Vec<(FeedId, Note)>,
    /// How many were no feed, no note, or beyond [`MAX_NOTES`].
    pub ignored: usize,
}

/// One item of an EBT stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Something that says it is a message; nothing of it is checked.
    Message {
        /// Whose.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
    },
    /// Notes.
    Notes(Notes),
    /// Neither.
    Garbage,
}

/// Tells what an item is. Messages as everyone sends them are recognised by their first bytes, without parsing.
#[must_use]
pub fn read_item(json: &[u8]) -> Item {
    if let Some((author, sequence)) = peek(json) {
        return Item::Message { author, sequence };
    }
    let Ok(document) = json::parse(json) else { return Item::Garbage };
    let root = document.root();
    if root.kind() != Kind::Object {
        return Item::Garbage;
    }
    match message(&root) {
        Some(found) => found,
        None => Item::Notes(collect(&root)),
    }
}

/// Reads notes.
///
/// Single notes that make no sense are passed over and counted: peers used to send them (ssb-ebt `cleanClock`).
///
/// # Errors
/// If the text is no JSON object.
pub fn parse_notes(json: &[u8]) -> Result<Notes, json::JsonError> {
    let document = json::parse(json)?;
    let root = document.root();
    if root.kind() != Kind::Object {
        return Err(json::JsonError { at: 0, what: "notes are an object" });
    }
    Ok(collect(&root))
}

/// Writes notes as one JSON object.
#[must_use]
pub fn write_notes(notes: &[(FeedId, Note)]) -> Bytes {
    let mut out = Vec::with_capacity(2 + notes.len() * 68);
    out.push(b'{');
    for (index, (feed, note)) in notes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        feed.write_to(&mut out);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(note.to_number().to_string().as_bytes());
    }
    out.push(b'}');
    out.into()
}

fn collect(root: &Value<'_, '_>) -> Notes {
    let inner = root.get("clock").filter(|clock| clock.kind() == Kind::Object);
    let mut found = Notes::default();
    for (key, value) in inner.as_ref().unwrap_or(root).entries() {
        let feed = FeedId::from_ascii(key).ok();
        let note = value.number().and_then(Note::from_number);
        match feed.zip(note) {
            Some(both) if found.notes.len() < MAX_NOTES => found.notes.push(both),
            _ => found.ignored += 1,
        }
    }
    found
}

/// The slow way: has an author, a sequence above 0 and a content.
fn message(root: &Value<'_, '_>) -> Option<Item> {
    let author = root.get("author").filter(|author| author.kind() == Kind::String)?;
    let sequence = root.get("sequence").and_then(|sequence| sequence.number())?;
    root.get("content").filter(|content| !matches!(content.kind(), Kind::Null | Kind::Boolean | Kind::Number))?;
    if sequence.fract() != 0.0 || sequence < 1.0 {
        return None;
    }
    let Some(Ok(author)) = author.escaped().map(FeedId::from_ascii) else { return Some(Item::Garbage) };
    // beyond 2^53 `as` saturates or rounds, which no valid message comes near
    Some(Item::Message { author, sequence: sequence as u64 })
}

/// The fast way: `{"previous":…,"author":"…","sequence":…,`, author and sequence in either order, no white space.
fn peek(json: &[u8]) -> Option<(FeedId, u64)> {
    let rest = json.strip_prefix(b"{\"previous\":")?;
    let rest = match rest.strip_prefix(b"null,") {
        Some(rest) => rest,
        None => rest.get(PREVIOUS..)?.strip_prefix(b",").filter(|_| rest.starts_with(b"\"%"))?,
    };
    let (author, sequence, rest) = match author(rest) {
        Some((author, rest)) => {
            let (sequence, rest) = sequence(rest)?;
            (author, sequence, rest)
        }
        None => {
            let (sequence, rest) = sequence(rest)?;
            let (author, rest) = author(rest)?;
            (author, sequence, rest)
        }
    };
    rest.starts_with(b"\"timestamp\":").then_some((author, sequence))
}

/// Length of a message id with its quotes.
const PREVIOUS: usize = 54;
/// Length of a feed id.
const FEED: usize = 53;

fn author(rest: &[u8]) -> Option<(FeedId, &[u8])> {
    let rest = rest.strip_prefix(b"\"author\":\"")?;
    let feed = FeedId::from_ascii(rest.get(..FEED)?).ok()?;
    Some((feed, rest.get(FEED..)?.strip_prefix(b"\",")?))
}

fn sequence(rest: &[u8]) -> Option<(u64, &[u8])> {
    let rest = rest.strip_prefix(b"\"sequence\":")?;
    let digits = rest.iter().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at_checked(digits)?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok().filter(|number| *number > 0)?;
    Some((number, rest.strip_prefix(b",")?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FEED_TEXT: &str = "@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519";

    fn feed() -> FeedId {
        FEED_TEXT.parse().unwrap()
    }

    #[test]
    fn notes_shift_the_sequence_and_mark_silence_in_the_low_bit() {
        for (note, number) in [
            (Note::Refused, -1),
            (Note::At { sequence: 0, send: true }, 0),
            (Note::At { sequence: 0, send: false }, 1),
            (Note::At { sequence: 450, send: true }, 900),
            (Note::At { sequence: 450, send: false }, 901),
            (Note::At { sequence: MAX_SEQUENCE, send: false }, i64::from(i32::MAX)),
        ] {
            assert_eq!(note.to_number(), number);
            assert_eq!(Note::from_number(number as f64), Some(note));
        }
        for other in [-2.0, 0.5, 2_147_483_648.0, f64::NAN, f64::INFINITY, -1.5] {
            assert_eq!(Note::from_number(other), None, "{other}");
        }
    }

    #[test]
    fn notes_that_make_no_sense_are_passed_over_one_by_one() {
        let text = format!("{{\"{FEED_TEXT}\":4,\"@x\":2,\"__proto__\":2,\"7\":null}}");
        let notes = parse_notes(text.as_bytes()).unwrap();
        assert_eq!(notes, Notes { notes: vec![(feed(), Note::At { sequence: 2, send: true })], ignored: 3 });
        let within = format!("{{\"clock\":{{\"{FEED_TEXT}\":-1}},\"more\":true}}");
        assert_eq!(parse_notes(within.as_bytes()).unwrap().notes, [(feed(), Note::Refused)]);
        let text = format!("{{\"{FEED_TEXT}\":\"4\"}}");
        assert_eq!(parse_notes(text.as_bytes()).unwrap(), Notes { notes: vec![], ignored: 1 });
        for broken in ["", "[]", "null", "{\"a\":", "7"] {
            assert!(parse_notes(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn messages_are_told_from_notes() {
        let previous = "%HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.sha256";
        let found = Item::Message { author: feed(), sequence: 12 };
        for message in [
            format!(
                "{{\"previous\":\"{previous}\",\"author\":\"{FEED_TEXT}\",\"sequence\":12,\"timestamp\":1,\"x\":1}}"
            ),
            format!(
                "{{\"previous\":\"{previous}\",\"sequence\":12,\"author\":\"{FEED_TEXT}\",\"timestamp\":1,\"x\":1}}"
            ),
            format!(
                "{{\"previous\":null,\"sequence\":12,\"author\":\"{FEED_TEXT}\",\"timestamp\":1,\"content\":{{}}}}"
            ),
            format!("{{ \"sequence\": 12, \"content\": {{}}, \"author\": \"{FEED_TEXT}\"}}"),
            format!("{{\"author\":\"{FEED_TEXT}\",\"sequence\":1.2e1,\"content\":\"x.box\"}}"),
        ] {
            assert_eq!(read_item(message.as_bytes()), found, "{message}");
        }
        assert_eq!(read_item(b"{\"author\":\"me\",\"sequence\":1,\"content\":{}}"), Item::Garbage);
        assert_eq!(read_item(b"{}"), Item::Notes(Notes::default()));
        for other in ["", "7", "[1]", "{\"previous\":", "{\"previous\":\"%", "{\"previous\":null,\"author\":\"@"] {
            assert_eq!(read_item(other.as_bytes()), Item::Garbage, "{other}");
        }
    }

    #[test]
    fn no_more_notes_are_read_than_the_bound() {
        let notes: Vec<_> = (0..MAX_NOTES as u32 + 3)
            .map(|number| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&number.to_le_bytes());
                (FeedId(id), Note::Refused)
            })
            .collect();
        let read = parse_notes(&write_notes(&notes)).unwrap();
        assert_eq!((read.notes.len(), read.ignored), (MAX_NOTES, 3));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(numbers in proptest::collection::btree_map(
            any::<[u8; 32]>(), prop_oneof![Just(-1i64), 0..i64::from(i32::MAX)], 0..20
        )) {
            let notes: Vec<_> = numbers
                .into_iter()
                .map(|(id, number)| (FeedId(id), Note::from_number(number as f64).unwrap()))
                .collect();
            prop_assert_eq!(parse_notes(&write_notes(&notes)).unwrap(), Notes { notes, ignored: 0 });
        }

        #[test]
        fn no_bytes_whatever_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_item(&bytes);
            let _ = parse_notes(&bytes);
            let mut prefixed = b"{\"previous\":".to_vec();
            prefixed.extend_from_slice(&bytes);
            let _ = read_item(&prefixed);
        }
    }
}
