//! Reading the old part of a stream, chunk by chunk, off the async threads.

use std::collections::VecDeque;
use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_store::{Direction, Record, Store, StoreError};

/// Records a chunk: large enough for the log to be read at full speed, small enough to stay below 2 MB.
pub(crate) const CHUNK: usize = 1024;

/// Bytes of a feed a chunk: peers ask for feeds, and may not read what they get.
pub(crate) const CHUNK_BYTES: u64 = 128 * 1024;

/// Which records a stream walks through.
pub(crate) enum Walk {
    /// The log from `next` up to and without `end`, in either direction.
    Log { next: u64, end: u64, reverse: bool },
    /// A feed's messages from `next` up to and with `last`, in either direction.
    Feed { author: FeedId, next: u64, last: u64, reverse: bool },
    /// Given records, in the order given.
    Numbers(VecDeque<u32>),
}

/// Whether a record belongs into the stream.
pub(crate) type Keep = Arc<dyn Fn(&Record) -> bool + Send + Sync>;

/// A walk with a limit.
pub(crate) struct Cursor {
    pub(crate) walk: Walk,
    /// How many records may still be handed out.
    pub(crate) left: u64,
    /// Which of the records walked through are handed out; all if `None`.
    pub(crate) keep: Option<Keep>,
}

impl Cursor {
    /// The next records, or nothing at the end. Blocks.
    ///
    /// # Errors
    /// What reading the log meets.
    pub(crate) fn next(&mut self, store: &Store) -> Result<Vec<Record>, StoreError> {
        while self.left > 0 {
            let wanted = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
            // with a filter it isn't known how many records yield what is wanted
            let chunk = if self.keep.is_some() { CHUNK } else { wanted };
            let mut records = self.walk.read(store, chunk)?;
            if records.is_empty() {
                return Ok(records);
            }
            if let Some(keep) = &self.keep {
                records.retain(|record| keep(record));
            }
            records.truncate(wanted);
            if !records.is_empty() {
                self.left -= records.len() as u64;
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }
}

impl Walk {
    /// The next records, at most `max`; none at the end. Blocks.
    pub(crate) fn read(&mut self, store: &Store, max: usize) -> Result<Vec<Record>, StoreError> {
        match self {
            Self::Log { next, end, reverse: false } => {
                let max = usize::try_from(end.saturating_sub(*next)).unwrap_or(max).min(max);
                if max == 0 {
                    return Ok(Vec::new());
                }
                let records = store.read_log(*next, max, Direction::Forward)?;
                *next = records.last().map_or(*end, |record| record.number + 1);
                Ok(records)
            }
            Self::Log { next, end, reverse: true } => {
                let max = usize::try_from(end.saturating_sub(*next)).unwrap_or(max).min(max);
                if max == 0 {
                    return Ok(Vec::new());
                }
                let records = store.read_log(*end - 1, max, Direction::Backward)?;
                *end = records.last().map_or(*next, |record| record.number);
                Ok(records)
            }
            Self::Feed { author, next, last, reverse: false } => {
                let max = usize::try_from((*last + 1).saturating_sub(*next)).unwrap_or(max).min(max);
                if max == 0 {
                    return Ok(Vec::new());
                }
                let records = store.read_feed_within(author, *next, max, CHUNK_BYTES)?;
                *next = records.last().map_or(*last, |record| record.sequence) + 1;
                Ok(records)
            }
            Self::Feed { author, next, last, reverse: true } => {
                let max = usize::try_from((*last + 1).saturating_sub(*next)).unwrap_or(max).min(max);
                if max == 0 {
                    return Ok(Vec::new());
                }
                let from = *last + 1 - max as u64;
                let mut records = store.read_feed(author, from, max)?;
                records.reverse();
                *last = from.saturating_sub(1);
                Ok(records)
            }
            Self::Numbers(numbers) => {
                // damaged records are left out, and that mustn't look like the end
                loop {
                    let next: Vec<u32> = numbers.drain(..numbers.len().min(max)).collect();
                    let records = store.records(&next)?;
                    if !records.is_empty() || numbers.is_empty() {
                        return Ok(records);
                    }
                }
            }
        }
    }
}

/// The number of the first record that came at or after `time`, or after it if `after` is set. Records lie in the log in
/// the order of their arrival, so this takes some twenty looks.
///
/// # Errors
/// What reading the log meets.
pub(crate) fn first_received(store: &Store, is_before: impl Fn(f64) -> bool) -> Result<u64, StoreError> {
    let (mut low, mut high) = (0, store.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match store.record(middle)? {
            Some(record) if is_before(record.received) => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
