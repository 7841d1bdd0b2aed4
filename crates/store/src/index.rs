//! What is known of the log in memory: where each record lies, which records make a feed, which one has an id, which are
//! of a type.
//!
//! About 30 bytes a message. Derived from the log alone; [`crate::checkpoint`] saves it to make starts fast.

use std::collections::HashMap;

use hashbrown::HashTable;
use sbot_feed::{FeedId, FeedTip, MsgId};

/// A record that is damaged or was never there: a hole in its feed.
pub(crate) const HOLE: u32 = u32::MAX;

/// Most records: numbers are 32 bits wide, and the last one means a hole.
pub(crate) const MAX_RECORDS: u64 = u32::MAX as u64 - 1;

/// One feed.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) id: FeedId,
    /// Record numbers, message 1 first.
    pub(crate) records: Vec<u32>,
    /// The newest message up to which none is missing.
    pub(crate) tip: Option<FeedTip>,
    /// Whether records go on behind the tip: one between is missing.
    pub(crate) holed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Where each record begins, in bytes from the log's beginning.
    pub(crate) places: Vec<u64>,
    pub(crate) feeds: Vec<Feed>,
    by_id: HashMap<FeedId, u32>,
    /// First four bytes of a message's id, and its record.
    keys: HashTable<(u32, u32)>,
    /// Records of each type, ascending; `""` for those whose content is boxed.
    pub(crate) types: HashMap<Box<str>, Vec<u32>>,
    /// When the last record came in.
    pub(crate) last_received: f64,
}

fn fingerprint(key: &MsgId) -> u32 {
    let bytes = key.as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Ids are hashes already; what matters is that the top bits differ, by which the table tells entries apart.
fn spread(fingerprint: u32) -> u64 {
    u64::from(fingerprint).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Index {
    pub(crate) fn len(&self) -> u64 {
        self.places.len() as u64
    }

    pub(crate) fn feed(&self, id: &FeedId) -> Option<&Feed> {
        self.by_id.get(id).map(|at| &self.feeds[*at as usize])
    }

    /// The place in `feeds` of the feed, made if it is new.
    pub(crate) fn feed_number(&mut self, id: &FeedId) -> usize {
        let next = self.feeds.len() as u32;
        let at = *self.by_id.entry(*id).or_insert(next);
        if at == next {
            self.feeds.push(Feed { id: *id, records: Vec::new(), tip: None, holed: false });
        }
        at as usize
    }

    /// Records that may have this id: nearly always none or the one.
    pub(crate) fn candidates(&self, key: &MsgId) -> Vec<u32> {
        let wanted = fingerprint(key);
        self.keys.iter_hash(spread(wanted)).filter(|(found, _)| *found == wanted).map(|(_, number)| *number).collect()
    }

    pub(crate) fn add_key(&mut self, fingerprint: u32, number: u32) {
        self.keys.insert_unique(spread(fingerprint), (fingerprint, number), |(fingerprint, _)| spread(*fingerprint));
    }

    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.keys.iter().copied()
    }

    pub(crate) fn reserve(&mut self, records: usize) {
        self.places.reserve_exact(records);
        self.keys.reserve(records, |(fingerprint, _)| spread(*fingerprint));
    }

    /// Adds the record that comes next in the log.
    pub(crate) fn add(&mut self, place: u64, record: &NewRecord<'_>) {
        let number = self.places.len() as u32;
        self.places.push(place);
        self.last_received = self.last_received.max(record.received);
        self.add_key(fingerprint(&record.key), number);
        self.add_type(record.kind, number);
        let at = self.feed_number(&record.author);
        let feed = &mut self.feeds[at];
        let slot = record.sequence.saturating_sub(1) as usize;
        if slot > feed.records.len() {
            feed.records.resize(slot, HOLE);
        }
        if slot == feed.records.len() {
            feed.records.push(number);
        } else {
            feed.records[slot] = number;
        }
        let next = feed.tip.map_or(1, |tip| tip.sequence + 1);
        if record.sequence == next {
            feed.tip = Some(FeedTip { sequence: next, key: record.key, timestamp: record.timestamp });
        }
        feed.holed = feed.tip.map_or(0, |tip| tip.sequence) < feed.records.len() as u64;
    }

    pub(crate) fn add_type(&mut self, kind: &str, number: u32) {
        match self.types.get_mut(kind) {
            Some(numbers) => numbers.push(number),
            None => {
                self.types.insert(kind.into(), vec![number]);
            }
        }
    }

    /// The record of a feed's message.
    pub(crate) fn record_of(&self, feed: &FeedId, sequence: u64) -> Option<u32> {
        let slot = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.feed(feed)?.records.get(slot).copied().filter(|number| *number != HOLE)
    }

    /// The record can't be read: its feed ends before it, until the message comes again.
    pub(crate) fn lose(&mut self, feed: usize, sequence: u64, tip: Option<FeedTip>) {
        let feed = &mut self.feeds[feed];
        if let Some(slot) = feed.records.get_mut(sequence.saturating_sub(1) as usize) {
            *slot = HOLE;
            if feed.tip.is_some_and(|old| old.sequence >= sequence) {
                feed.tip = tip;
            }
            feed.holed = true;
        }
    }
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

/// The type of a stored value's content; `""` if it is boxed.
pub(crate) fn kind_of(value: &[u8]) -> std::borrow::Cow<'_, str> {
    const FIRST: &[u8] = b"{\"type\":\"";
    let content = sbot_feed::content_of(value);
    if let Some(rest) = content.strip_prefix(FIRST)
        && let Some(end) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))
        && rest[end] == b'"'
    {
        return String::from_utf8_lossy(&rest[..end]);
    }
    if content.first() != Some(&b'{') {
        return "".into();
    }
    sbot_feed::json::parse(content)
        .ok()
        .and_then(|document| {
            let printed = document.root().get("type")?.printed().to_vec();
            serde_json::from_slice::<String>(&printed).ok()
        })
        .unwrap_or_default()
        .into()
}

/// The claimed timestamp of a stored value.
pub(crate) fn timestamp_of(value: &[u8]) -> f64 {
    // The keys before it hold ids and numbers only, so that its name can't be anything else.
    const NAME: &[u8] = b"\"timestamp\":";
    let head = &value[..value.len().min(400)];
    let Some(at) = head.windows(NAME.len()).position(|window| window == NAME) else { return 0.0 };
    let rest = &head[at + NAME.len()..];
    let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}
