//! What is known of the log in memory: where each record lies, which records make a feed, which one has an id, which are
//! of a type.
//!
//! About 25 bytes a message. Derived from the log alone; [`crate::checkpoint`] saves it to make starts fast.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use sbot_feed::{FeedId, FeedTip, MsgId};

use crate::log::SEGMENT;
use crate::quarantine::Damage;

/// A message that is damaged or was never there.
pub(crate) const HOLE: u32 = u32::MAX;

/// Most records: numbers are 32 bits wide, and the last one means a hole.
pub(crate) const MAX_RECORDS: u64 = u32::MAX as u64 - 1;

/// Names of types that have a list of their own. Peers choose them; messages of any further type share one list, which is
/// read through when one of them is asked for.
pub(crate) const MAX_TYPES: usize = 4096;

/// Longest hole in a feed: a record further ahead is as good as lost with those before it.
const MAX_HOLE: usize = 1 << 20;

/// The type under which boxed messages are listed. No message can have it.
pub(crate) const BOXED: &str = "";

/// One feed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Feed {
    pub(crate) id: FeedId,
    /// Record numbers, message 1 first.
    pub(crate) records: Vec<u32>,
    /// The newest message up to which none is missing.
    pub(crate) tip: Option<FeedTip>,
}

impl Feed {
    pub(crate) fn tip_sequence(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.sequence)
    }

    /// Whether a message behind the tip is damaged.
    pub(crate) fn is_holed(&self) -> bool {
        self.records.len() as u64 > self.tip_sequence()
    }

    /// The record of a message, if there is one.
    pub(crate) fn record_of(&self, sequence: u64) -> Option<u32> {
        let slot = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.records.get(slot).copied().filter(|number| *number != HOLE)
    }

    /// The last message before the first hole.
    pub(crate) fn contiguous(&self) -> u64 {
        let start = self.tip_sequence() as usize;
        let rest = self.records.get(start..).unwrap_or_default();
        (start + rest.iter().take_while(|number| **number != HOLE).count()) as u64
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Where each record begins in its segment.
    pub(crate) offsets: Vec<u32>,
    /// For each segment, the first record that lies in it or behind it.
    pub(crate) firsts: Vec<u32>,
    /// First four bytes of each record's id.
    pub(crate) prints: Vec<u32>,
    /// Records by `prints`.
    pub(crate) keys: HashTable<u32>,
    pub(crate) feeds: Vec<Feed>,
    /// Places in `feeds`, by id.
    pub(crate) by_id: HashTable<u32>,
    pub(crate) hasher: DefaultHashBuilder,
    /// Records of each type, ascending.
    pub(crate) types: HashMap<Box<str>, Vec<u32>>,
    /// Records of types that came when `types` was full, ascending.
    pub(crate) rare: Vec<u32>,
    /// When the last record came in.
    pub(crate) last_received: f64,
    /// Stretches of the log that can't be read.
    pub(crate) damage: Vec<Damage>,
}

pub(crate) fn print_of(key: &MsgId) -> u32 {
    let bytes = key.as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Ids are hashes already; what matters is that the top bits differ, by which the table tells entries apart.
fn spread(print: u32) -> u64 {
    u64::from(print).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What the index needs of a record.
pub(crate) struct NewRecord<'a> {
    pub(crate) received: f64,
    pub(crate) key: MsgId,
    pub(crate) author: FeedId,
    pub(crate) sequence: u64,
    pub(crate) timestamp: f64,
    pub(crate) kind: &'a str,
}

impl Index {
    pub(crate) fn len(&self) -> u64 {
        self.offsets.len() as u64
    }

    /// Where a record begins.
    pub(crate) fn place(&self, number: u32) -> Option<u64> {
        let offset = *self.offsets.get(number as usize)?;
        let segment = self.firsts.partition_point(|first| *first <= number).checked_sub(1)?;
        Some(segment as u64 * SEGMENT + u64::from(offset))
    }

    fn find_feed(&self, id: &FeedId) -> Option<u32> {
        self.by_id.find(self.hasher.hash_one(id), |at| self.feeds[*at as usize].id == *id).copied()
    }

    pub(crate) fn feed(&self, id: &FeedId) -> Option<&Feed> {
        self.find_feed(id).map(|at| &self.feeds[at as usize])
    }

    pub(crate) fn feed_mut(&mut self, id: &FeedId) -> Option<&mut Feed> {
        self.find_feed(id).map(|at| &mut self.feeds[at as usize])
    }

    pub(crate) fn add_feed(&mut self, feed: Feed) {
        let Index { feeds, by_id, hasher, .. } = self;
        let at = feeds.len() as u32;
        let hash = hasher.hash_one(feed.id);
        feeds.push(feed);
        by_id.insert_unique(hash, at, |at| hasher.hash_one(feeds[*at as usize].id));
    }

    /// Records that may have this id: nearly always none or the one.
    pub(crate) fn candidates(&self, key: &MsgId) -> Vec<u32> {
        let wanted = print_of(key);
        self.keys.iter_hash(spread(wanted)).copied().filter(|number| self.prints[*number as usize] == wanted).collect()
    }

    /// Builds the table of ids from `prints`.
    pub(crate) fn build_keys(&mut self) {
        let Index { keys, prints, .. } = self;
        *keys = HashTable::with_capacity(prints.len());
        for (number, print) in prints.iter().enumerate() {
            keys.insert_unique(spread(*print), number as u32, |number| spread(prints[*number as usize]));
        }
    }

    /// Adds the record that comes next in the log. One that was there before (the same message of the same feed) is left
    /// out: then the answer is false.
    pub(crate) fn add(&mut self, place: u64, record: &NewRecord<'_>) -> bool {
        let number = self.offsets.len() as u32;
        if self.feed(&record.author).is_none() {
            self.add_feed(Feed { id: record.author, records: Vec::new(), tip: None });
        }
        let Some(feed) = self.feed_mut(&record.author) else { return false };
        let Some(slot) = record.sequence.checked_sub(1).and_then(|slot| usize::try_from(slot).ok()) else {
            return false;
        };
        if slot > feed.records.len() + MAX_HOLE || feed.record_of(record.sequence).is_some() {
            return false;
        }
        if slot > feed.records.len() {
            feed.records.resize(slot, HOLE);
        }
        match feed.records.get_mut(slot) {
            Some(hole) => *hole = number,
            None => feed.records.push(number),
        }
        if record.sequence == feed.tip_sequence() + 1 {
            feed.tip = Some(FeedTip { sequence: record.sequence, key: record.key, timestamp: record.timestamp });
        }
        let segment = (place / SEGMENT) as usize;
        if segment >= self.firsts.len() {
            self.firsts.resize(segment + 1, number);
        }
        self.offsets.push((place % SEGMENT) as u32);
        let print = print_of(&record.key);
        self.prints.push(print);
        let Index { keys, prints, .. } = self;
        keys.insert_unique(spread(print), number, |number| spread(prints[*number as usize]));
        self.last_received = self.last_received.max(record.received);
        self.add_type(record.kind, number);
        true
    }

    fn add_type(&mut self, kind: &str, number: u32) {
        if let Some(numbers) = self.types.get_mut(kind) {
            numbers.push(number);
        } else if self.types.len() < MAX_TYPES {
            self.types.insert(kind.into(), vec![number]);
        } else {
            self.rare.push(number);
        }
    }

    /// The record of a feed's message.
    pub(crate) fn record_of(&self, feed: &FeedId, sequence: u64) -> Option<u32> {
        self.feed(feed)?.record_of(sequence)
    }

    /// Whose message a record is. Looks through everything.
    pub(crate) fn owner(&self, number: u32) -> Option<(FeedId, u64)> {
        self.feeds.iter().find_map(|feed| {
            let slot = feed.records.iter().position(|record| *record == number)?;
            Some((feed.id, slot as u64 + 1))
        })
    }

    /// A message can't be read: its feed ends before it, until the message comes again. `tip` is the message before it.
    pub(crate) fn lose(&mut self, feed: &FeedId, sequence: u64, tip: Option<FeedTip>) {
        let Some(feed) = self.feed_mut(feed) else { return };
        let Some(slot) = sequence.checked_sub(1).and_then(|slot| feed.records.get_mut(slot as usize)) else { return };
        *slot = HOLE;
        if feed.tip_sequence() >= sequence {
            feed.tip = tip;
        }
    }

    /// The damaged record before this point may have been the feed's newest message: until it comes again, or is known
    /// not to exist, nothing may be signed in its place.
    pub(crate) fn suspect(&mut self, feed: &FeedId, sequence: u64) {
        if let Some(feed) = self.feed_mut(feed)
            && feed.records.len() as u64 + 1 == sequence
        {
            feed.records.push(HOLE);
        }
    }
}

/// The type of a stored value's content; [`BOXED`] if it is boxed.
pub(crate) fn kind_of(value: &[u8]) -> Cow<'_, str> {
    const FIRST: &[u8] = b"{\"type\":\"";
    let content = sbot_feed::content_of(value);
    if let Some(rest) = content.strip_prefix(FIRST)
        && let Some(end) = memchr::memchr2(b'"', b'\\', rest)
        && rest[end] == b'"'
    {
        return String::from_utf8_lossy(&rest[..end]);
    }
    if content.first() != Some(&b'{') {
        return BOXED.into();
    }
    let Ok(document) = sbot_feed::json::parse(content) else { return BOXED.into() };
    let Some(kind) = document.root().get("type") else { return BOXED.into() };
    let printed = kind.printed();
    // A lone surrogate is no text in Rust: such a type goes by its escaped form.
    serde_json::from_slice::<String>(printed).unwrap_or_else(|_| String::from_utf8_lossy(printed).into_owned()).into()
}

/// The claimed timestamp of a stored value; NaN if there is none.
pub(crate) fn timestamp_of(value: &[u8]) -> f64 {
    // The keys before it hold ids and numbers only, so that its name can't be anything else.
    const NAME: &[u8] = b"\"timestamp\":";
    let Some(at) = memchr::memmem::find(value, NAME) else { return f64::NAN };
    let rest = &value[at + NAME.len()..];
    let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(content: &str) -> Vec<u8> {
        let signature = "A".repeat(86);
        format!(
            "{{\"previous\":null,\"author\":\"@x\",\"sequence\":1,\"timestamp\":1.5e3,\"hash\":\"sha256\",\
             \"content\":{content},\"signature\":\"{signature}==.sig.ed25519\"}}"
        )
        .into_bytes()
    }

    #[test]
    fn types_are_found_wherever_they_stand() {
        assert_eq!(kind_of(&value(r#"{"type":"post","text":"a"}"#)), "post");
        assert_eq!(kind_of(&value(r#"{"text":"\"type\":\"vote\"","type":"post"}"#)), "post");
        assert_eq!(kind_of(&value(r#"{"type":"a\"b","text":1}"#)), "a\"b");
        assert_eq!(kind_of(&value(r#"{"type":"\ud800abc"}"#)), r#""\ud800abc""#);
        assert_eq!(kind_of(&value(r#""AAAA.box""#)), BOXED);
        assert_eq!(timestamp_of(&value(r#"{"type":"post","timestamp":3}"#)), 1500.0);
    }

    #[test]
    fn a_hole_ends_a_feed_until_it_is_filled() {
        let author = FeedId([1; 32]);
        let mut index = Index::default();
        let add = |index: &mut Index, sequence: u64| {
            let key = MsgId([sequence as u8; 32]);
            let place = index.len() * 100;
            index.add(place, &NewRecord { received: 1.0, key, author, sequence, timestamp: 2.0, kind: "post" })
        };
        for sequence in [1, 2, 5] {
            assert!(add(&mut index, sequence));
        }
        let feed = index.feed(&author).unwrap();
        assert_eq!((feed.tip_sequence(), feed.is_holed(), feed.contiguous()), (2, true, 2));
        assert!(!add(&mut index, 5));
        assert!(add(&mut index, 4));
        assert!(add(&mut index, 3));
        let feed = index.feed(&author).unwrap();
        assert_eq!((feed.tip_sequence(), feed.contiguous()), (3, 5));
        assert_eq!(feed.records, [0, 1, 4, 3, 2]);
        assert_eq!(index.place(4), Some(400));
    }
}
