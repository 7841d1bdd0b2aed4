//! The order of ssb-db's feed stream: by the time that authors claim, or that of receipt if that is earlier.
//!
//! 12 bytes a message, made when it is first asked for, kept up from then on and saved when the store closes.
//!
//! Source: ssb-db `indexes/feed.js`.

use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use sbot_feed::MsgId;

use crate::error::StoreError;
use crate::read::Direction;
use crate::sidefile;
use crate::store::Shared;

/// The last digit is the version.
const MAGIC: &[u8; 8] = b"sbotclm1";

/// Records that are read at once while catching up.
pub(crate) const CHUNK: usize = 1024;

#[derive(Default)]
pub(crate) struct Claimed {
    loaded: bool,
    /// How many records it covers, and covers on disk.
    upto: u64,
    saved: u64,
    /// The id of the last one that it covers.
    last: Option<MsgId>,
    /// Sorted, with `numbers` in step.
    times: Vec<f64>,
    numbers: Vec<u32>,
}

impl Claimed {
    /// Adds what is sorted in itself.
    fn merge(&mut self, fresh: &[(f64, u32)]) {
        let mut old = self.times.len();
        let mut at = old + fresh.len();
        self.times.resize(at, 0.0);
        self.numbers.resize(at, 0);
        // From the back, so that each entry moves at most once.
        for (time, number) in fresh.iter().rev() {
            while old > 0 && self.times[old - 1] > *time {
                at -= 1;
                old -= 1;
                self.times[at] = self.times[old];
                self.numbers[at] = self.numbers[old];
            }
            at -= 1;
            self.times[at] = *time;
            self.numbers[at] = *number;
        }
    }
}

impl Shared {
    fn claimed_path(&self) -> PathBuf {
        self.dir.join("claimed")
    }

    pub(crate) fn by_claimed_time(&self, range: &impl RangeBounds<f64>) -> Result<Vec<u32>, StoreError> {
        let mut claimed = self.claimed.lock();
        self.catch_up_claimed(&mut claimed)?;
        let times = &claimed.times;
        let first = match range.start_bound() {
            Bound::Included(from) => times.partition_point(|time| time < from),
            Bound::Excluded(from) => times.partition_point(|time| time <= from),
            Bound::Unbounded => 0,
        };
        let last = match range.end_bound() {
            Bound::Included(to) => times.partition_point(|time| time <= to),
            Bound::Excluded(to) => times.partition_point(|time| time < to),
            Bound::Unbounded => times.len(),
        };
        let last = last.max(first);
        let mut numbers = claimed.numbers[first..last].to_vec();
        let mut at = 0;
        for same in times[first..last].chunk_by(|a, b| a == b) {
            let end = at + same.len();
            if same.len() > 1 {
                self.sort_by_author(&mut numbers[at..end])?;
            }
            at = end;
        }
        Ok(numbers)
    }

    fn sort_by_author(&self, numbers: &mut [u32]) -> Result<(), StoreError> {
        let mut keyed = Vec::with_capacity(numbers.len());
        for number in numbers.iter() {
            keyed.push((self.read_one(*number)?.map(|record| record.author.to_string()), *number));
        }
        keyed.sort();
        for (slot, (_, number)) in numbers.iter_mut().zip(keyed) {
            *slot = number;
        }
        Ok(())
    }

    fn catch_up_claimed(&self, claimed: &mut Claimed) -> Result<(), StoreError> {
        if !claimed.loaded {
            *claimed = self.load_claimed()?.unwrap_or_default();
            claimed.loaded = true;
        }
        let mut fresh = Vec::new();
        loop {
            let records = self.read_log(claimed.upto, CHUNK, Direction::Forward)?;
            let Some(last) = records.last() else { break };
            claimed.upto = last.number + 1;
            claimed.last = Some(last.key);
            fresh.extend(records.iter().map(|record| (record.resolved_time(), record.number as u32)));
        }
        fresh.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        claimed.merge(&fresh);
        Ok(())
    }

    fn load_claimed(&self) -> Result<Option<Claimed>, StoreError> {
        let loaded = sidefile::load(&self.claimed_path(), MAGIC, |input| {
            let (upto, last) = (input.u64()?, MsgId(input.take()?));
            let numbers = input.u32s()?;
            let times: Option<Vec<f64>> = (0..numbers.len()).map(|_| input.f64()).collect();
            Some(Claimed { loaded: true, upto, saved: upto, last: Some(last), times: times?, numbers })
        });
        let Some(claimed) = loaded else { return Ok(None) };
        Ok(self.is_current(claimed.upto, claimed.last)?.then_some(claimed))
    }

    /// Whether what covers so many records, this one last, is of this log.
    pub(crate) fn is_current(&self, upto: u64, last: Option<MsgId>) -> Result<bool, StoreError> {
        let Some(number) = upto.checked_sub(1).and_then(|number| u32::try_from(number).ok()) else { return Ok(false) };
        Ok(last.is_some() && self.read_key(number)? == last)
    }

    /// Saves what has been made of the indexes that are made on demand.
    pub(crate) fn save_side_indexes(&self) {
        for saved in [self.save_claimed(), self.save_links()] {
            if let Err(error) = saved {
                tracing::warn!(%error, "can't save an index: it will be made again when it is needed");
            }
        }
    }

    fn save_claimed(&self) -> Result<(), StoreError> {
        let claimed = self.claimed.lock();
        let Some(last) = claimed.last.filter(|_| claimed.upto > claimed.saved) else { return Ok(()) };
        sidefile::save(&self.claimed_path(), MAGIC, |out| {
            out.u64(claimed.upto)?;
            out.put(last.as_bytes())?;
            out.u32s(&claimed.numbers)?;
            claimed.times.iter().try_for_each(|time| out.f64(*time))
        })
    }
}
