//! The index, saved beside the log.
//!
//! A checkpoint that is missing, torn, damaged, of another version or of another log is ignored: the log is scanned
//! instead.

use std::path::Path;

use parking_lot::RwLock;
use sbot_feed::{FeedId, FeedTip, MsgId};

use crate::error::StoreError;
use crate::index::{Feed, HOLE, Index};
use crate::quarantine::Damage;
use crate::sidefile;

/// The last digit is the version.
const MAGIC: &[u8; 8] = b"sbotidx1";

/// Saves the index, which covers the log up to `end`. Only the copying holds the lock.
pub(crate) fn save(path: &Path, index: &RwLock<Index>, end: u64) -> Result<(), StoreError> {
    sidefile::save(path, MAGIC, |out| {
        let index = index.read();
        out.u64(end)?;
        out.f64(index.last_received)?;
        out.u32s(&index.offsets)?;
        out.u32s(&index.firsts)?;
        out.u32s(&index.prints)?;
        out.u32(index.feeds.len() as u32)?;
        for feed in &index.feeds {
            out.put(feed.id.as_bytes())?;
            let tip = feed.tip.unwrap_or(FeedTip { sequence: 0, key: MsgId([0; 32]), timestamp: 0.0 });
            out.u64(tip.sequence)?;
            out.put(tip.key.as_bytes())?;
            out.f64(tip.timestamp)?;
            out.u32s(&feed.records)?;
        }
        out.u32(index.types.len() as u32)?;
        for (kind, numbers) in &index.types {
            out.bytes(kind.as_bytes())?;
            out.u32s(numbers)?;
        }
        out.u32s(&index.rare)?;
        out.u32(index.damage.len() as u32)?;
        for damage in &index.damage {
            out.u64(damage.place)?;
            out.u64(damage.length)?;
            let (author, sequence) = damage.message.unwrap_or((FeedId([0; 32]), 0));
            out.put(author.as_bytes())?;
            out.u64(sequence)?;
        }
        Ok(())
    })
}

/// The saved index and where in the log it ends; `None` if there is none that can be used.
pub(crate) fn load(path: &Path) -> Option<(Index, u64)> {
    let (mut index, end) = sidefile::load(path, MAGIC, |input| {
        let end = input.u64()?;
        let mut index = Index { last_received: input.f64()?, ..Index::default() };
        index.offsets = input.u32s()?;
        index.firsts = input.u32s()?;
        index.prints = input.u32s()?;
        for _ in 0..input.count(32)? {
            let id = FeedId(input.take()?);
            let tip = FeedTip { sequence: input.u64()?, key: MsgId(input.take()?), timestamp: input.f64()? };
            index.add_feed(Feed { id, records: input.u32s()?, tip: (tip.sequence > 0).then_some(tip) });
        }
        for _ in 0..input.count(8)? {
            let kind = String::from_utf8(input.bytes()?).ok()?;
            let numbers = input.u32s()?;
            index.types.insert(kind.into(), numbers);
        }
        index.rare = input.u32s()?;
        for _ in 0..input.count(56)? {
            let (place, length) = (input.u64()?, input.u64()?);
            let (author, sequence) = (FeedId(input.take()?), input.u64()?);
            index.damage.push(Damage { place, length, message: (sequence > 0).then_some((author, sequence)) });
        }
        Some((index, end))
    })?;
    if !is_consistent(&index) {
        return None;
    }
    index.build_keys();
    Some((index, end))
}

/// Whether all numbers point into the lists: a checksum can be right over what another program wrote.
fn is_consistent(index: &Index) -> bool {
    let count = index.offsets.len();
    let inside = |number: &u32| (*number as usize) < count;
    index.prints.len() == count
        && index.firsts.iter().all(|first| *first as usize <= count)
        && index.firsts.is_sorted()
        && (count == 0 || index.firsts.first() == Some(&0))
        && index.feeds.iter().all(|feed| {
            feed.tip_sequence() <= feed.records.len() as u64
                && feed.records.iter().all(|number| *number == HOLE || inside(number))
        })
        && index.types.values().chain([&index.rare]).flatten().all(inside)
}
