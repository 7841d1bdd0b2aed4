//! The log's files: segments of records, one after the other.
//!
//! A place is a number of bytes from the log's beginning, with each segment counted as [`SEGMENT`] long: segment
//! `place / SEGMENT`, offset `place % SEGMENT`. No record crosses into the next segment.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::error::StoreError;
use crate::record::{self, Record};

/// Most bytes of a segment: what a damaged file system can lose at once, and what a backup has to copy again. Short in
/// the unit tests, so that they see more than one.
pub(crate) const SEGMENT: u64 = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// Most segments: their number is part of a name of five digits.
const MAX_SEGMENTS: usize = 100_000;

/// Read while scanning, in bytes.
const SCAN: usize = 256 << 10;

const NAME: &str = "log-";

pub(crate) struct Log {
    dir: PathBuf,
    segments: RwLock<Vec<Segment>>,
}

#[derive(Clone)]
struct Segment {
    file: Arc<File>,
    length: u64,
}

/// A stretch of the log that is no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Nothing whole follows: the log's torn end.
    pub(crate) torn: bool,
}

impl Log {
    pub(crate) fn open(dir: &Path) -> Result<Log, StoreError> {
        let log = Log { dir: dir.to_owned(), segments: RwLock::new(Vec::new()) };
        let entries = fs::read_dir(dir).map_err(|error| StoreError::io("can't look into", dir, error))?;
        let numbers = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix(NAME)?.parse::<usize>().ok().filter(|number| *number < MAX_SEGMENTS)
        });
        for number in 0..numbers.max().map_or(0, |last| last + 1) {
            let path = log.path(number);
            if !path.exists() {
                tracing::error!(path = %path.display(), "a segment of the log is gone: its messages have to be fetched again");
            }
            // A missing one is made, empty: what lies behind it stays where it is.
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(|error| StoreError::io("can't open", &path, error))?;
            let length = file.metadata().map_err(|error| StoreError::io("can't look at", &path, error))?.len();
            log.segments.write().push(Segment { file: Arc::new(file), length });
        }
        Ok(log)
    }

    pub(crate) fn path(&self, segment: usize) -> PathBuf {
        self.dir.join(format!("{NAME}{segment:05}"))
    }

    fn segment(&self, number: usize) -> Option<Segment> {
        self.segments.read().get(number).cloned()
    }

    /// Where the next record goes.
    pub(crate) fn end(&self) -> u64 {
        let segments = self.segments.read();
        match segments.last() {
            Some(last) => (segments.len() as u64 - 1) * SEGMENT + last.length,
            None => 0,
        }
    }

    /// Bytes in all segments from `from` on.
    pub(crate) fn bytes_from(&self, from: u64) -> u64 {
        let segments = self.segments.read();
        let rest = segments.iter().enumerate().skip((from / SEGMENT) as usize);
        rest.map(|(number, segment)| segment.length.saturating_sub(from.saturating_sub(number as u64 * SEGMENT))).sum()
    }

    /// Where a record of this length goes: at the end, or at the beginning of a new segment.
    pub(crate) fn place(end: u64, length: usize) -> u64 {
        if end % SEGMENT + length as u64 > SEGMENT { (end / SEGMENT + 1) * SEGMENT } else { end }
    }

    /// Writes whole records at `place`, which is the end or the beginning of the next segment. On an error the file is
    /// cut back to what it was.
    pub(crate) fn append(&self, place: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let number = (place / SEGMENT) as usize;
        let path = self.path(number);
        if number == self.segments.read().len() {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
            let file = file.map_err(|error| StoreError::io("can't make", &path, error))?;
            self.sync_dir()?;
            self.segments.write().push(Segment { file: Arc::new(file), length: 0 });
        }
        let offset = place % SEGMENT;
        let Some(segment) = self.segment(number) else { return Err(StoreError::Closed) };
        if let Err(error) = segment.file.write_all_at(bytes, offset) {
            // If even this fails, the next record is written over it, or the next start cuts it.
            let _ = segment.file.set_len(offset);
            return Err(StoreError::io("can't write", &path, error));
        }
        if let Some(segment) = self.segments.write().get_mut(number) {
            segment.length = offset + bytes.len() as u64;
        }
        Ok(())
    }

    /// Makes everything from `from` up to now survive a power cut.
    pub(crate) fn sync(&self, from: u64) -> Result<(), StoreError> {
        let count = self.segments.read().len();
        for number in (from / SEGMENT) as usize..count {
            let Some(segment) = self.segment(number) else { continue };
            segment.file.sync_data().map_err(|error| StoreError::io("can't sync", &self.path(number), error))?;
        }
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| StoreError::io("can't sync", &self.dir, error))
    }

    /// Cuts everything from `place` on, which lies in the last segment. If that fails, the next record is written over it
    /// all the same.
    pub(crate) fn cut(&self, place: u64) -> Result<(), StoreError> {
        let number = (place / SEGMENT) as usize;
        let mut segments = self.segments.write();
        let Some(segment) = segments.get_mut(number) else { return Ok(()) };
        segment.length = place % SEGMENT;
        let path = self.path(number);
        segment.file.set_len(place % SEGMENT).map_err(|error| StoreError::io("can't cut", &path, error))?;
        segment.file.sync_data().map_err(|error| StoreError::io("can't sync", &path, error))
    }

    /// Where the segment of `place` ends.
    pub(crate) fn segment_end(&self, place: u64) -> u64 {
        let number = place / SEGMENT;
        self.segment(number as usize).map_or(place, |segment| number * SEGMENT + segment.length)
    }

    /// Fills `buffer` with what lies at `place`, all within one segment.
    pub(crate) fn read_into(&self, place: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let number = (place / SEGMENT) as usize;
        let Some(segment) = self.segment(number) else { return Err(StoreError::Closed) };
        let read = segment.file.read_exact_at(buffer, place % SEGMENT);
        read.map_err(|error| StoreError::io("can't read", &self.path(number), error))
    }

    /// The bytes from `from` to `to`, both in one segment.
    pub(crate) fn read(&self, from: u64, to: u64) -> Result<Bytes, StoreError> {
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        self.read_into(from, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Goes through all whole records from `from` on, in order, and tells of stretches that are none.
    ///
    /// After damage, the next whole record is found by its checksum, byte by byte.
    pub(crate) fn scan(
        &self,
        from: u64,
        mut found: impl FnMut(u64, &Record),
        mut damaged: impl FnMut(Stretch),
    ) -> Result<(), StoreError> {
        let count = self.segments.read().len();
        for segment in (from / SEGMENT) as usize..count {
            let base = segment as u64 * SEGMENT;
            let end = self.segment_end(base);
            let mut at = from.max(base);
            let mut bad: Option<u64> = None;
            while at < end {
                let window = self.read(at, end.min(at + (SCAN + record::MAX_RECORD) as u64))?;
                let last = at + window.len() as u64 == end;
                let mut offset = 0;
                // Beyond that, a record may not be all in the window.
                while offset < window.len() && (last || offset < SCAN) {
                    if let Some(record) = record::read(&window, offset, 0) {
                        if let Some(start) = bad.take() {
                            damaged(Stretch { from: start, to: at + offset as u64, torn: false });
                        }
                        found(at + offset as u64, &record);
                        offset += record::HEAD + record.value.len();
                    } else {
                        bad.get_or_insert(at + offset as u64);
                        offset += 1;
                    }
                }
                at += offset as u64;
            }
            if let Some(start) = bad {
                damaged(Stretch { from: start, to: end, torn: segment + 1 == count });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sbot_feed::{FeedTip, Keypair, create_message};

    use super::*;
    use crate::{Direction, Ingested, Store, StoreOptions};

    fn open(dir: &Path) -> Store {
        Store::open(dir, StoreOptions::default(), &mut |_| {}).unwrap()
    }

    #[test]
    fn a_log_of_many_segments_is_written_read_and_reopened_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let feeds: Vec<_> = (1..4).map(|seed| Keypair::from_seed([seed; 32])).collect();
        let mut tips: Vec<Option<FeedTip>> = vec![None; 3];
        let mut messages = Vec::new();
        for number in 0..600_usize {
            let at = number % 3;
            let content = format!(r#"{{"type":"post","text":"{}"}}"#, "x".repeat(number * 37 % 900));
            let message = create_message(&feeds[at], None, tips[at].as_ref(), content.as_bytes(), 1e12).unwrap();
            tips[at] = Some(FeedTip::from(&message));
            messages.push(message);
        }
        let store = open(dir.path());
        let (own, others): (Vec<_>, Vec<_>) = messages.iter().partition(|message| message.author == feeds[0].id());
        for message in own {
            runtime.block_on(store.append_own(message.clone())).unwrap();
        }
        let values = others.iter().map(|message| message.value.clone()).collect();
        let answers = runtime.block_on(store.ingest(values));
        assert!(answers.iter().all(|answer| matches!(answer, Ingested::Stored { .. })));
        let all = store.read_log(0, 1000, Direction::Forward).unwrap();
        assert_eq!(all.len(), 600);
        assert!(store.bytes() > 5 * SEGMENT);
        drop(store);
        for name in ["", "index"] {
            if !name.is_empty() {
                fs::remove_file(dir.path().join(name)).unwrap();
            }
            let store = open(dir.path());
            assert_eq!(store.read_log(0, 1000, Direction::Forward).unwrap(), all);
            for (feed, tip) in feeds.iter().zip(&tips) {
                assert_eq!(store.tip(&feed.id()), *tip);
                let records = store.read_feed(&feed.id(), 1, 1000).unwrap();
                assert_eq!(records.len(), 200);
            }
            let backwards: Vec<u32> = (0..600).rev().step_by(7).collect();
            let records = store.records(&backwards).unwrap();
            assert_eq!(records.iter().map(|record| record.number as u32).collect::<Vec<_>>(), backwards);
            for message in &messages {
                assert_eq!(store.get(&message.key).unwrap().unwrap().value, message.value);
            }
        }
        for number in 0.. {
            let Ok(found) = fs::metadata(dir.path().join(format!("{NAME}{number:05}"))) else { break };
            assert!(found.len() <= SEGMENT);
        }
    }
}
