//! Messages as the streams show them: whole, or only the id, or only the value.
//!
//! Nothing is parsed: the value's bytes lie in the log as JSON and are put between a key and a timestamp.

use std::sync::Arc;

use bytes::Bytes;
use sbot_rpc::Body;
use sbot_store::Record;

use super::options::Options;
use crate::private::Boxes;

/// What to show of each message.
#[derive(Clone)]
pub(crate) struct Painter {
    keys: bool,
    values: bool,
    reveal: Option<Arc<Boxes>>,
    resolved: bool,
}

impl Painter {
    /// Shows what `options` ask for.
    pub(crate) fn new(options: &Options, boxes: &Arc<Boxes>) -> Self {
        Self {
            keys: options.keys,
            values: options.values,
            reveal: options.private.then(|| Arc::clone(boxes)),
            resolved: false,
        }
    }

    /// Never shows decrypted contents.
    pub(crate) fn sealed(mut self) -> Self {
        self.reveal = None;
        self
    }

    /// Also shows the time by which the feed stream sorts, as `rts`.
    pub(crate) fn with_resolved_time(mut self) -> Self {
        self.resolved = true;
        self
    }

    /// Whether painting takes long, because it decrypts.
    pub(crate) fn opens(&self) -> bool {
        self.reveal.is_some()
    }

    /// One body for each record, all in one buffer.
    pub(crate) fn paint(&self, records: &[Record]) -> Vec<Body> {
        if !self.keys {
            return records.iter().map(|record| Body::Json(self.value(record))).collect();
        }
        if !self.values {
            return records.iter().map(|record| text(&record.key)).collect();
        }
        let size = records.iter().map(|record| record.value.len() + OVERHEAD).sum();
        let mut buffer = Vec::with_capacity(size);
        let mut ends = Vec::with_capacity(records.len());
        for record in records {
            put_message(&mut buffer, record, &self.value(record));
            if self.resolved {
                // reopen the object that was just closed
                buffer.pop();
                buffer.extend_from_slice(b",\"rts\":");
                buffer.extend_from_slice(ryu_js::Buffer::new().format(resolved_time(record)).as_bytes());
                buffer.push(b'}');
            }
            ends.push(buffer.len());
        }
        let buffer = Bytes::from(buffer);
        let mut start = 0;
        ends.into_iter().map(|end| Body::Json(buffer.slice(std::mem::replace(&mut start, end)..end))).collect()
    }

    fn value(&self, record: &Record) -> Bytes {
        let revealed = self.reveal.as_ref().and_then(|boxes| boxes.reveal_record(record));
        revealed.unwrap_or_else(|| record.value.clone())
    }
}

/// What stands around a value: its key, its timestamp and the resolved one.
const OVERHEAD: usize = 160;

/// A message as `{"key","value","timestamp"}`.
pub(crate) fn message(record: &Record) -> Bytes {
    message_with(record, &record.value)
}

/// A message as `{"key","value","timestamp"}`, with `value` in place of the record's own.
pub(crate) fn message_with(record: &Record, value: &[u8]) -> Bytes {
    let mut buffer = Vec::with_capacity(value.len() + OVERHEAD);
    put_message(&mut buffer, record, value);
    buffer.into()
}

/// Appends a message as `{"key","value","timestamp"}`, with `value` in place of the record's own.
pub(crate) fn put_message(buffer: &mut Vec<u8>, record: &Record, value: &[u8]) {
    sbot_feed::write_key_value_timestamp(buffer, &record.key, value, record.received);
}

/// A JavaScript string: it travels as text, not as JSON.
pub(crate) fn text(what: &impl std::fmt::Display) -> Body {
    Body::String(Bytes::from(what.to_string()))
}

/// The time by which the feed stream sorts: the one that the author claims, unless the message was here before that
/// (`ssb-db/indexes/feed.js`).
pub(crate) fn resolved_time(record: &Record) -> f64 {
    let claimed = claimed_time(&record.value);
    // a claim that is 0 or no number counts as none
    if claimed.is_nan() || claimed == 0.0 || record.received < claimed { record.received } else { claimed }
}

/// The timestamp in a message's value; NaN if there is none.
fn claimed_time(value: &[u8]) -> f64 {
    const BEFORE: &[u8] = b"\"timestamp\":";
    let Some(at) = memchr::memmem::find(value, BEFORE) else { return f64::NAN };
    let rest = value.get(at + BEFORE.len()..).unwrap_or_default();
    let end = memchr::memchr2(b',', b'}', rest).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}
