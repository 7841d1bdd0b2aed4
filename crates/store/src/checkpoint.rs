//! The index, saved beside the log.
//!
//! Written to a new file that then replaces the old one, with a checksum over all. A checkpoint that is missing, torn or
//! of another version is ignored: the log is scanned instead.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use sbot_feed::{FeedId, FeedTip, MsgId};

use crate::error::StoreError;
use crate::index::{Feed, HOLE, Index};

const MAGIC: &[u8; 8] = b"sbotidx2";

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn f64(&mut self) -> Option<f64> {
        self.take().map(|bytes| f64::from_le_bytes(*bytes))
    }

    /// A list's length, which can't be more than the bytes that are left.
    fn count(&mut self, item: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count.checked_mul(item)? <= self.0.len()).then_some(count)
    }

    fn u32s(&mut self) -> Option<Vec<u32>> {
        let count = self.count(4)?;
        (0..count).map(|_| self.u32()).collect()
    }
}

/// Saves `index`, which covers the log up to `end`.
pub(crate) fn save(path: &Path, index: &Index, end: u64) -> Result<(), StoreError> {
    let mut out = Vec::with_capacity(32 * index.places.len() + 1024);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&end.to_le_bytes());
    out.extend_from_slice(&index.last_received.to_le_bytes());
    out.extend_from_slice(&(index.places.len() as u32).to_le_bytes());
    for place in &index.places {
        out.extend_from_slice(&place.to_le_bytes());
    }
    for (fingerprint, number) in index.fingerprints() {
        out.extend_from_slice(&fingerprint.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(index.feeds.len() as u32).to_le_bytes());
    for feed in &index.feeds {
        out.extend_from_slice(feed.id.as_bytes());
        let tip = feed.tip.unwrap_or(FeedTip { sequence: 0, key: MsgId([0; 32]), timestamp: 0.0 });
        out.extend_from_slice(&tip.sequence.to_le_bytes());
        out.extend_from_slice(tip.key.as_bytes());
        out.extend_from_slice(&tip.timestamp.to_le_bytes());
        put_u32s(&mut out, &feed.records);
    }
    out.extend_from_slice(&(index.types.len() as u32).to_le_bytes());
    for (kind, numbers) in &index.types {
        out.extend_from_slice(&(kind.len() as u32).to_le_bytes());
        out.extend_from_slice(kind.as_bytes());
        put_u32s(&mut out, numbers);
    }
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());

    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&out)?;
        file.sync_data()
    });
    let replaced = written.and_then(|()| fs::rename(&new, path));
    replaced.map_err(|error| {
        // A half-written file would only take room.
        let _ = fs::remove_file(&new);
        StoreError::io("can't write", path, error)
    })
}

fn put_u32s(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend_from_slice(&(numbers.len() as u32).to_le_bytes());
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// The saved index and where in the log it ends; `None` if there is none that can be used.
pub(crate) fn load(path: &Path) -> Option<(Index, u64)> {
    let bytes = fs::read(path).ok()?;
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut reader = Reader(body);
    if reader.take::<8>()? != MAGIC {
        return None;
    }
    let end = reader.u64()?;
    let mut index = Index::default();
    index.last_received = reader.f64()?;
    let count = reader.count(16)?;
    index.reserve(count);
    for _ in 0..count {
        index.places.push(reader.u64()?);
    }
    for _ in 0..count {
        index.add_key(reader.u32()?, reader.u32()?);
    }
    for _ in 0..reader.count(32)? {
        let id = FeedId(*reader.take()?);
        let tip = FeedTip { sequence: reader.u64()?, key: MsgId(*reader.take()?), timestamp: reader.f64()? };
        let records = reader.u32s()?;
        if records.iter().any(|number| *number != HOLE && *number as usize >= count) {
            return None;
        }
        let holed = tip.sequence < records.len() as u64;
        let at = index.feed_number(&id);
        index.feeds[at] = Feed { id, records, tip: (tip.sequence > 0).then_some(tip), holed };
    }
    for _ in 0..reader.count(8)? {
        let length = reader.count(1)?;
        let (kind, rest) = reader.0.split_at_checked(length)?;
        reader.0 = rest;
        let kind = std::str::from_utf8(kind).ok()?.into();
        let numbers = reader.u32s()?;
        index.types.insert(kind, numbers);
    }
    Some((index, end))
}
