//! Reading records: many at once, in few large reads, with their values as slices of the buffers read into.

use bytes::Bytes;
use sbot_feed::{FeedId, FeedTip, MsgId};

use crate::error::StoreError;
use crate::index::{Feed, Index, timestamp_of};
use crate::log::SEGMENT;
use crate::open::report;
use crate::quarantine::Damage;
use crate::record::{self, KEY_AT, MAX_RECORD, Record};
use crate::store::Shared;

/// Which way to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards newer records.
    Forward,
    /// Towards older records.
    Backward,
}

/// Most records of one call, whatever is asked for.
pub(crate) const MAX_RECORDS_READ: usize = 16_384;

/// Bytes of one buffer, at most and but for a last record. Values keep their buffer alive: it shouldn't be large, nor so
/// large that the allocator gets it from the system each time (`docs/decisions/0012-allocator.md`).
const BUFFER: u64 = 128 << 10;

/// Bytes between two wanted records that are rather read along than skipped by another call to the system.
const GAP: u64 = 1024;

/// A record to be read.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    number: u32,
    place: u64,
    /// An upper bound of its length.
    length: u64,
}

/// What is read at once: part of a buffer.
struct Piece {
    place: u64,
    length: u64,
    first: usize,
}

impl Shared {
    fn wanted(&self, index: &Index, number: u32) -> Option<Wanted> {
        let place = index.place(number)?;
        // Up to the next record, if that is in the same segment.
        let end = match index.place(number.checked_add(1)?) {
            Some(next) if next / SEGMENT == place / SEGMENT => next,
            _ => self.log.segment_end(place),
        };
        let length = end.saturating_sub(place).min(MAX_RECORD as u64);
        Some(Wanted { number, place, length })
    }

    /// Messages of a feed until there are `max`, or `bytes` of them.
    fn wanted_of(&self, feed: &FeedId, from: u64, max: usize, bytes: u64) -> Vec<Wanted> {
        let index = self.index.read();
        let Some(feed) = index.feed(feed) else { return Vec::new() };
        let mut room = bytes;
        let fits = |wanted: &Wanted| {
            let fits = room > 0;
            room = room.saturating_sub(wanted.length);
            fits
        };
        run(feed, from, max).iter().map_while(|number| self.wanted(&index, *number)).take_while(fits).collect()
    }

    /// An upper bound of what messages of a feed take in the log.
    pub(crate) fn feed_bytes(&self, feed: &FeedId, from: u64, max: usize) -> u64 {
        self.wanted_of(feed, from, max, u64::MAX).iter().map(|one| one.length).sum()
    }

    /// Reads records, given in the order of their places. `None` where a record is damaged.
    fn read_wanted(&self, wanted: &[Wanted]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = Vec::with_capacity(wanted.len());
        let mut rest = wanted;
        while !rest.is_empty() {
            let (pieces, taken, size) = pieces(rest);
            let mut buffer = vec![0; size as usize];
            let mut at = 0;
            for piece in &pieces {
                let end = at + piece.length as usize;
                self.log.read_into(piece.place, &mut buffer[at..end])?;
                at = end;
            }
            let buffer = Bytes::from(buffer);
            let mut start = 0;
            for (number, piece) in pieces.iter().enumerate() {
                let last = pieces.get(number + 1).map_or(taken, |next| next.first);
                for one in &rest[piece.first..last] {
                    records.push(record::read(
                        &buffer,
                        start + (one.place - piece.place) as usize,
                        u64::from(one.number),
                    ));
                }
                start += piece.length as usize;
            }
            rest = &rest[taken..];
        }
        Ok(records)
    }

    /// One record; `None` if there is none of that number, or it is damaged.
    pub(crate) fn read_one(&self, number: u32) -> Result<Option<Record>, StoreError> {
        let Some(wanted) = self.wanted(&self.index.read(), number) else { return Ok(None) };
        let found = self.read_wanted(&[wanted])?.pop().flatten();
        if found.is_none() {
            self.lost(wanted)?;
        }
        Ok(found)
    }

    /// The id of a record, without its checksum being looked at.
    pub(crate) fn read_key(&self, number: u32) -> Result<Option<MsgId>, StoreError> {
        let Some(place) = self.index.read().place(number) else { return Ok(None) };
        let mut key = [0; 32];
        self.log.read_into(place + KEY_AT, &mut key)?;
        Ok(Some(MsgId(key)))
    }

    pub(crate) fn get(&self, key: &MsgId) -> Result<Option<Record>, StoreError> {
        let candidates = self.index.read().candidates(key);
        for number in candidates {
            if let Some(record) = self.read_one(number)?
                && record.key == *key
            {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Records in the order asked for; damaged ones are left out.
    pub(crate) fn read_numbers(&self, numbers: &[u32]) -> Result<Vec<Record>, StoreError> {
        let mut wanted: Vec<(usize, Wanted)> = {
            let index = self.index.read();
            let found = numbers.iter().enumerate().map(|(at, number)| Some((at, self.wanted(&index, *number)?)));
            found.flatten().collect()
        };
        wanted.sort_by_key(|(_, one)| one.place);
        let places: Vec<Wanted> = wanted.iter().map(|(_, one)| *one).collect();
        let mut found: Vec<Option<Record>> = vec![None; numbers.len()];
        for ((at, one), record) in wanted.into_iter().zip(self.read_wanted(&places)?) {
            if record.is_none() {
                self.lost(one)?;
            }
            found[at] = record;
        }
        Ok(found.into_iter().flatten().collect())
    }

    pub(crate) fn read_feed(
        &self,
        feed: &FeedId,
        from: u64,
        max: usize,
        bytes: u64,
    ) -> Result<Vec<Record>, StoreError> {
        let wanted = self.wanted_of(feed, from, max, bytes);
        // A message that was damaged and fetched again lies behind those that follow it.
        let mut records = Vec::with_capacity(wanted.len());
        for run in wanted.chunk_by(|a, b| a.place < b.place) {
            for (one, found) in run.iter().zip(self.read_wanted(run)?) {
                let Some(record) = found else {
                    self.lost(*one)?;
                    return Ok(records);
                };
                records.push(record);
            }
        }
        Ok(records)
    }

    pub(crate) fn read_log(&self, from: u64, max: usize, direction: Direction) -> Result<Vec<Record>, StoreError> {
        let max = max.clamp(1, MAX_RECORDS_READ) as u64;
        let mut from = from;
        loop {
            let wanted: Vec<Wanted> = {
                let index = self.index.read();
                let (first, last) = match direction {
                    Direction::Forward => (from, from.saturating_add(max).min(index.len())),
                    Direction::Backward => {
                        let last = from.saturating_add(1).min(index.len());
                        (last.saturating_sub(max), last)
                    }
                };
                (first..last).filter_map(|number| self.wanted(&index, u32::try_from(number).ok()?)).collect()
            };
            let (Some(first), Some(last)) = (wanted.first().copied(), wanted.last().copied()) else {
                return Ok(Vec::new());
            };
            let mut records = Vec::with_capacity(wanted.len());
            for (one, found) in wanted.iter().zip(self.read_wanted(&wanted)?) {
                match found {
                    Some(record) => records.push(record),
                    None => self.lost(*one)?,
                }
            }
            if direction == Direction::Backward {
                records.reverse();
            }
            if !records.is_empty() {
                return Ok(records);
            }
            // All damaged: further on.
            from = match direction {
                Direction::Forward => u64::from(last.number) + 1,
                Direction::Backward => match u64::from(first.number).checked_sub(1) {
                    Some(before) => before,
                    None => return Ok(Vec::new()),
                },
            };
        }
    }

    /// A record turned out to be damaged: its feed ends before it, until the message comes again.
    fn lost(&self, wanted: Wanted) -> Result<(), StoreError> {
        let Some((author, sequence)) = self.index.read().owner(wanted.number) else { return Ok(()) };
        let tip = self.tip_before(&author, sequence)?;
        let mut index = self.index.write();
        if index.record_of(&author, sequence) != Some(wanted.number) {
            return Ok(());
        }
        index.lose(&author, sequence, tip);
        report(&mut index, Damage { place: wanted.place, length: wanted.length, message: Some((author, sequence)) });
        self.lost.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The newest readable message before this one, up to which none is missing. Records on the way that can't be read are
    /// lost too.
    fn tip_before(&self, author: &FeedId, sequence: u64) -> Result<Option<FeedTip>, StoreError> {
        let (mut at, old) = {
            let index = self.index.read();
            let Some(feed) = index.feed(author) else { return Ok(None) };
            (sequence.saturating_sub(1).min(feed.tip_sequence()), feed.tip)
        };
        if old.is_some_and(|tip| tip.sequence < sequence) {
            return Ok(old);
        }
        while at > 0 {
            if let Some(tip) = self.read_tip(author, at)? {
                return Ok(Some(tip));
            }
            at -= 1;
        }
        Ok(None)
    }

    /// A message as a feed's tip; `None` if it can't be read: then it is a hole from now on.
    fn read_tip(&self, author: &FeedId, sequence: u64) -> Result<Option<FeedTip>, StoreError> {
        let wanted = {
            let index = self.index.read();
            index.record_of(author, sequence).and_then(|number| self.wanted(&index, number))
        };
        let Some(wanted) = wanted else { return Ok(None) };
        if let Some(record) = self.read_wanted(&[wanted])?.pop().flatten() {
            return Ok(Some(FeedTip { sequence, key: record.key, timestamp: timestamp_of(&record.value) }));
        }
        let mut index = self.index.write();
        let tip = index.feed(author).and_then(|feed| feed.tip);
        index.lose(author, sequence, tip.filter(|tip| tip.sequence < sequence));
        report(&mut index, Damage { place: wanted.place, length: wanted.length, message: Some((*author, sequence)) });
        self.lost.send_modify(|count| *count += 1);
        Ok(None)
    }

    /// Moves a feed's tip over what is there again now that a hole is filled.
    pub(crate) fn settle(&self, author: &FeedId) -> Result<(), StoreError> {
        loop {
            let last = {
                let index = self.index.read();
                let Some(feed) = index.feed(author) else { return Ok(()) };
                let last = feed.contiguous();
                if last <= feed.tip_sequence() {
                    return Ok(());
                }
                last
            };
            // If it is `None`, the run has become shorter.
            if let Some(tip) = self.read_tip(author, last)? {
                let mut index = self.index.write();
                if let Some(feed) = index.feed_mut(author)
                    && feed.contiguous() >= last
                {
                    feed.tip = Some(tip);
                }
                return Ok(());
            }
        }
    }
}

/// The numbers of a feed's messages from a sequence on, up to the tip.
fn run(feed: &Feed, from: u64, max: usize) -> &[u32] {
    let first = from.max(1) - 1;
    let last = feed.tip_sequence().min(first.saturating_add(max.min(MAX_RECORDS_READ) as u64));
    feed.records.get(first as usize..last as usize).unwrap_or_default()
}

/// How to read the first of `wanted` into one buffer: the pieces, how many records they hold, and their length.
fn pieces(wanted: &[Wanted]) -> (Vec<Piece>, usize, u64) {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut size = 0;
    for (number, one) in wanted.iter().enumerate() {
        if size >= BUFFER {
            return (pieces, number, size);
        }
        match pieces.last_mut() {
            Some(piece)
                if one.place >= piece.place
                    && one.place / SEGMENT == piece.place / SEGMENT
                    && one.place <= piece.place + piece.length + GAP =>
            {
                let length = piece.length.max(one.place + one.length - piece.place);
                size += length - piece.length;
                piece.length = length;
            }
            _ => {
                pieces.push(Piece { place: one.place, length: one.length, first: number });
                size += one.length;
            }
        }
    }
    (pieces, wanted.len(), size)
}
