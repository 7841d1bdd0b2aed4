//! What the writer, the verifier and all readers share: the files and the index over them.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;

use parking_lot::{Mutex, RwLock};
use sbot_feed::{FeedId, FeedTip, Message};
use tokio::sync::watch;

use crate::error::StoreError;
use crate::forks::Forks;
use crate::index::{HOLE, Index, timestamp_of};
use crate::log::{Log, SEGMENT};
use crate::record::{self, Record};

/// Records whose bytes lie at most so far apart are read in one go.
const NEAR: u64 = 16 * 1024;

/// Most bytes read in one go.
const READ: u64 = 1 << 20;

pub(crate) struct Core {
    pub(crate) dir: PathBuf,
    pub(crate) log: Log,
    pub(crate) index: RwLock<Index>,
    pub(crate) forks: Mutex<Forks>,
    pub(crate) length: watch::Sender<u64>,
    /// Records that can't be read, told of already.
    pub(crate) lost: Mutex<HashSet<u32>>,
    /// Held as long as the store is open.
    pub(crate) _lock: File,
}

/// One record's bytes: number, beginning, end.
type Extent = (u32, u64, u64);

impl Core {
    pub(crate) fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("index")
    }

    fn extents(&self, numbers: impl Iterator<Item = u32>) -> Vec<Extent> {
        let index = self.index.read();
        numbers
            .filter_map(|number| {
                let at = *index.places.get(number as usize)?;
                let next = index.places.get(number as usize + 1).copied().filter(|next| next / SEGMENT == at / SEGMENT);
                let end = next.unwrap_or_else(|| self.log.segment_end(at));
                Some((number, at, end.min(at + record::MAX_RECORD as u64)))
            })
            .collect()
    }

    /// The records with these numbers, in this order. Damaged ones are left out, and lost from their feeds.
    pub(crate) fn read(&self, numbers: impl Iterator<Item = u32>) -> Result<Vec<Record>, StoreError> {
        let extents = self.extents(numbers);
        let mut records = Vec::with_capacity(extents.len());
        let mut rest = &extents[..];
        while let Some(&(_, start, mut end)) = rest.first() {
            let mut count = 1;
            while let Some(&(_, at, next_end)) = rest.get(count) {
                let near = at >= end && at - end <= NEAR && next_end - start <= READ && at / SEGMENT == start / SEGMENT;
                if !near {
                    break;
                }
                end = next_end;
                count += 1;
            }
            let bytes = self.log.read(start, end)?;
            for &(number, at, _) in &rest[..count] {
                match record::read(&bytes, (at - start) as usize, u64::from(number)) {
                    Some(record) => records.push(record),
                    None => self.lose(number),
                }
            }
            rest = &rest[count..];
        }
        Ok(records)
    }

    /// A record whose checksum is wrong: its feed ends before it until a peer has sent it again.
    fn lose(&self, number: u32) {
        if !self.lost.lock().insert(number) {
            return;
        }
        let found = {
            let index = self.index.read();
            let place = index.places.get(number as usize).copied().unwrap_or_default();
            index.feeds.iter().enumerate().find_map(|(at, feed)| {
                let slot = feed.records.iter().position(|record| *record == number)?;
                let before = slot.checked_sub(1).map(|slot| feed.records[slot]);
                Some((at, feed.id, slot as u64 + 1, before, place))
            })
        };
        let Some((feed, id, sequence, before, place)) = found else { return };
        tracing::error!(
            feed = %id, sequence, record = number, file = %self.log.path((place / SEGMENT) as usize).display(),
            offset = place % SEGMENT, "a stored message is damaged: it will be fetched again from peers"
        );
        let tip = before.filter(|number| *number != HOLE).and_then(|number| {
            let &(_, at, end) = self.extents(std::iter::once(number)).first()?;
            let record = record::read(&self.log.read(at, end).ok()?, 0, u64::from(number))?;
            Some(tip_of(&record))
        });
        self.index.write().lose(feed, sequence, tip);
    }

    /// After a hole was filled: moves the feed's tip over the records that were there already.
    pub(crate) fn heal(&self, id: &FeedId) -> Result<(), StoreError> {
        loop {
            let next = {
                let index = self.index.read();
                let Some(feed) = index.feed(id).filter(|feed| feed.holed) else { return Ok(()) };
                let at = feed.tip.map_or(0, |tip| tip.sequence) as usize;
                match feed.records.get(at) {
                    Some(number) if *number != HOLE => *number,
                    _ => return Ok(()),
                }
            };
            let Some(record) = self.read(std::iter::once(next))?.pop() else { return Ok(()) };
            let mut index = self.index.write();
            let at = index.feed_number(id);
            let feed = &mut index.feeds[at];
            feed.tip = Some(tip_of(&record));
            feed.holed = record.sequence < feed.records.len() as u64;
        }
    }
}

pub(crate) fn tip_of(record: &Record) -> FeedTip {
    FeedTip { sequence: record.sequence, key: record.key, timestamp: timestamp_of(&record.value) }
}

/// Whether the index holds this very message, as far as four bytes of its id tell.
pub(crate) fn is_known(index: &Index, message: &Message) -> bool {
    index
        .record_of(&message.author, message.sequence)
        .is_some_and(|number| index.candidates(&message.key).contains(&number))
}
