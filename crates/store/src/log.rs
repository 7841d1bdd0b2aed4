//! The log's files: segments of records, one after the other.
//!
//! A place is a number of bytes from the log's beginning, with each segment counted as [`SEGMENT`] long: segment
//! `place / SEGMENT`, offset `place % SEGMENT`. No record crosses into the next segment.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::error::StoreError;
use crate::record::{self, Record};

/// Most bytes of a segment: what a damaged file system can lose at once, and what a backup has to copy again.
pub(crate) const SEGMENT: u64 = 64 << 20;

/// Read while scanning, in bytes.
const SCAN: usize = 1 << 20;

pub(crate) struct Log {
    dir: PathBuf,
    segments: RwLock<Vec<Segment>>,
}

#[derive(Clone)]
struct Segment {
    file: Arc<File>,
    length: u64,
}

impl Log {
    pub(crate) fn open(dir: &Path) -> Result<Log, StoreError> {
        let log = Log { dir: dir.to_owned(), segments: RwLock::new(Vec::new()) };
        loop {
            let number = log.segments.read().len();
            let path = log.path(number);
            if !path.exists() {
                return Ok(log);
            }
            let file = OpenOptions::new().read(true).write(true).open(&path);
            let file = file.map_err(|error| StoreError::io("can't open", &path, error))?;
            let length = file.metadata().map_err(|error| StoreError::io("can't look at", &path, error))?.len();
            log.segments.write().push(Segment { file: Arc::new(file), length });
        }
    }

    pub(crate) fn path(&self, segment: usize) -> PathBuf {
        self.dir.join(format!("log-{segment:05}"))
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

    /// Bytes in all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.length).sum()
    }

    /// Where a record of this length goes: at the end, or at the beginning of a new segment.
    pub(crate) fn place(end: u64, length: usize) -> u64 {
        if end % SEGMENT + length as u64 > SEGMENT { (end / SEGMENT + 1) * SEGMENT } else { end }
    }

    /// Writes whole records at `place`, which is the end or the beginning of the next segment. On an error the file is cut
    /// back to what it was.
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
            // If even this fails, the next start cuts the torn tail.
            let _ = segment.file.set_len(offset);
            return Err(StoreError::io("can't write", &path, error));
        }
        if let Some(segment) = self.segments.write().get_mut(number) {
            segment.length = offset + bytes.len() as u64;
        }
        Ok(())
    }

    /// Makes everything up to now survive a power cut.
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

    /// Cuts everything from `place` on.
    pub(crate) fn cut(&self, place: u64) -> Result<(), StoreError> {
        let number = (place / SEGMENT) as usize;
        let mut segments = self.segments.write();
        if let Some(segment) = segments.get_mut(number) {
            let path = self.path(number);
            segment.file.set_len(place % SEGMENT).map_err(|error| StoreError::io("can't cut", &path, error))?;
            segment.file.sync_data().map_err(|error| StoreError::io("can't sync", &path, error))?;
            segment.length = place % SEGMENT;
        }
        Ok(())
    }

    /// Where the segment of `place` ends.
    pub(crate) fn segment_end(&self, place: u64) -> u64 {
        let number = place / SEGMENT;
        self.segment(number as usize).map_or(place, |segment| number * SEGMENT + segment.length)
    }

    /// The bytes from `from` to `to`, both in one segment.
    pub(crate) fn read(&self, from: u64, to: u64) -> Result<Bytes, StoreError> {
        let number = (from / SEGMENT) as usize;
        let Some(segment) = self.segment(number) else { return Ok(Bytes::new()) };
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        segment
            .file
            .read_exact_at(&mut bytes, from % SEGMENT)
            .map_err(|error| StoreError::io("can't read", &self.path(number), error))?;
        Ok(bytes.into())
    }

    /// Goes through all whole records from `from` on, in order, and tells of stretches that are none.
    ///
    /// A stretch behind which nothing whole follows is the torn tail; it is told last.
    pub(crate) fn scan(
        &self,
        from: u64,
        mut found: impl FnMut(u64, &Record),
        mut damaged: impl FnMut(u64, u64, bool),
    ) -> Result<(), StoreError> {
        let count = self.segments.read().len();
        let mut number = 0;
        for segment in (from / SEGMENT) as usize..count {
            let base = segment as u64 * SEGMENT;
            let end = self.segment_end(base);
            let mut at = from.max(base);
            let mut bad: Option<u64> = None;
            while at < end {
                let window = self.read(at, end.min(at + (SCAN + record::MAX_RECORD) as u64))?;
                let mut offset = 0;
                // Up to where a record would surely fit in the window, or the segment's end.
                let last = at + window.len() as u64 == end;
                while offset < window.len() && (last || offset < SCAN) {
                    match record::read(&window, offset, number) {
                        Some(record) => {
                            if let Some(start) = bad.take() {
                                damaged(start, at + offset as u64, false);
                            }
                            found(at + offset as u64, &record);
                            number += 1;
                            offset += record::HEAD + record.value.len();
                        }
                        None => {
                            bad.get_or_insert(at + offset as u64);
                            offset += 1;
                        }
                    }
                }
                at += offset as u64;
            }
            if let Some(start) = bad {
                damaged(start, end, segment + 1 == count);
            }
        }
        Ok(())
    }
}
