//! One connected peer: what it was told and what is still to be told, what it has, and what is fetched from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sbot_feed::BlobId;

use crate::settings::{MAX_BAD, MAX_DOUBLINGS, MAX_PENDING, MAX_RECENT, RETRY_PAUSE};

/// Entries of a queue that may be out of date beyond as many as are good.
const SLACK: usize = 64;

/// When a peer is asked again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    attempts: u8,
    at: u64,
    asked: bool,
}

/// A connected peer.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Tells this connection from earlier ones of the same peer.
    pub(crate) number: u64,
    /// Whether it listens to what we say.
    pub(crate) listens: bool,
    /// Wants that it was told or will be, with the nearest distance.
    told: BTreeMap<BlobId, u32>,
    /// Wants that it is to be told of, as negative distances.
    wanted: BTreeMap<BlobId, i64>,
    /// Sizes that it is to be told. Apart from wants: a blob that is pushed has both.
    sizes: BTreeMap<BlobId, i64>,
    /// Blobs that it has and that are wanted.
    haves: BTreeMap<BlobId, Option<u64>>,
    /// Blobs that it has and that nobody wants yet, oldest first.
    recent: VecDeque<(BlobId, Option<u64>)>,
    /// Blobs of which it has sent something else.
    bad: BTreeSet<BlobId>,
    retries: BTreeMap<BlobId, Retry>,
    /// Wants of its that are taken on.
    pub(crate) wants: BTreeSet<BlobId>,
    /// Blobs to fetch from it: our own wants, and those of others.
    ready: [VecDeque<BlobId>; 2],
    /// Transfers from it under way.
    pub(crate) fetching: usize,
}

impl Link {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// It listens from now on, and wasn't told of any want yet. What it asked before it listened is still answered.
    pub(crate) fn listen(&mut self) {
        self.listens = true;
        self.told.clear();
        self.wanted.clear();
    }

    /// Tells it of a want unless it knows. True if it is to be told.
    pub(crate) fn tell_want(&mut self, blob: BlobId, distance: u32) -> bool {
        if !self.listens || self.told.get(&blob).is_some_and(|told| *told <= distance) {
            return false;
        }
        self.told.insert(blob, distance);
        self.wanted.insert(blob, -i64::from(distance));
        true
    }

    /// Tells it that a blob is here. True if it is to be told.
    pub(crate) fn tell_size(&mut self, blob: BlobId, size: u64) -> bool {
        if size == 0 || self.sizes.len() >= MAX_PENDING {
            return false;
        }
        self.sizes.insert(blob, i64::try_from(size).unwrap_or(i64::MAX));
        true
    }

    /// A want that is no more needn't be told if it wasn't yet. That it was told is kept: when the blob is wanted again
    /// the peer, which forgets no wants, knows already. What it was told is bounded by what can be wanted at a time.
    pub(crate) fn untell(&mut self, blob: &BlobId, still_wanted: impl Fn(&BlobId) -> bool, bound: usize) {
        if self.wanted.remove(blob).is_some() {
            self.told.remove(blob);
        }
        if self.told.len() > bound {
            self.told.retain(|blob, _| still_wanted(blob));
        }
    }

    /// It is to be told of a want again, though it may know.
    pub(crate) fn ask_anew(&mut self, blob: &BlobId) {
        self.told.remove(blob);
    }

    /// The blob is here: whatever it was told of a want is over.
    pub(crate) fn settle(&mut self, blob: &BlobId) {
        self.told.remove(blob);
        self.wanted.remove(blob);
        self.haves.remove(blob);
        self.retries.remove(blob);
    }

    /// Takes at most `most` notes to send, if it listens: sizes first.
    pub(crate) fn take_pending(&mut self, most: usize) -> BTreeMap<BlobId, i64> {
        if !self.listens {
            return BTreeMap::new();
        }
        let notes = if self.sizes.is_empty() { &mut self.wanted } else { &mut self.sizes };
        match notes.keys().nth(most).copied() {
            Some(first_kept) => {
                let kept = notes.split_off(&first_kept);
                std::mem::replace(notes, kept)
            }
            None => std::mem::take(notes),
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.listens && !(self.sizes.is_empty() && self.wanted.is_empty())
    }

    /// It has a blob that is wanted. True if that is news and worth a transfer.
    pub(crate) fn note_have(&mut self, blob: BlobId, size: Option<u64>, own: bool, now: u64) -> bool {
        let too_soon = self.retries.get(&blob).is_some_and(|retry| now < retry.at);
        if too_soon || self.bad.contains(&blob) || self.bad.len() >= MAX_BAD {
            return false;
        }
        if self.haves.insert(blob, size).is_some() {
            return false;
        }
        self.enqueue(blob, own);
        true
    }

    /// It has a blob that nobody wants yet, or any more.
    pub(crate) fn note_recent(&mut self, blob: BlobId, size: Option<u64>) {
        self.told.remove(&blob);
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((blob, size));
    }

    /// A blob comes to be wanted: did it say that it has it?
    pub(crate) fn recall(&mut self, blob: &BlobId) -> Option<Option<u64>> {
        let at = self.recent.iter().rposition(|(known, _)| known == blob)?;
        self.recent.remove(at).map(|(_, size)| size)
    }

    /// The size that it told of a blob that it has and that can be fetched from it; the inner `None` if it told none.
    pub(crate) fn size_of(&self, blob: &BlobId) -> Option<Option<u64>> {
        self.haves.get(blob).copied()
    }

    /// Puts a blob that it has into the queue. What was forgotten meanwhile is swept out when it is more than the rest.
    pub(crate) fn enqueue(&mut self, blob: BlobId, own: bool) {
        let queue = &mut self.ready[usize::from(!own)];
        if queue.len() > 2 * self.haves.len() + SLACK {
            let mut kept = BTreeSet::new();
            queue.retain(|blob| self.haves.contains_key(blob) && kept.insert(*blob));
        }
        queue.push_back(blob);
    }

    pub(crate) fn next_ready(&mut self) -> Option<BlobId> {
        let [own, others] = &mut self.ready;
        own.pop_front().or_else(|| others.pop_front())
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.ready.iter().any(|queue| !queue.is_empty())
    }

    /// Nobody wants a blob any more. A peer that has answered has to be asked again when somebody does.
    pub(crate) fn forget(&mut self, blob: &BlobId) {
        let had = self.haves.remove(blob).is_some();
        if self.retries.remove(blob).is_some() || had {
            self.told.remove(blob);
        }
    }

    /// It sent something else for this blob.
    pub(crate) fn mark_bad(&mut self, blob: BlobId) {
        self.haves.remove(&blob);
        self.bad.insert(blob);
        if self.bad.len() >= MAX_BAD {
            self.haves.clear();
        }
    }

    /// It couldn't send a blob that it said to have: it is asked again after a pause, and not believed before.
    pub(crate) fn retry_later(&mut self, blob: BlobId, now: u64) {
        self.haves.remove(&blob);
        let attempts = self.retries.get(&blob).map_or(0, |retry| retry.attempts);
        let (pause, attempts) = (RETRY_PAUSE << attempts.min(MAX_DOUBLINGS), attempts.saturating_add(1));
        self.retries.insert(blob, Retry { attempts, at: now.saturating_add(pause), asked: false });
    }

    /// The blobs for which it is time to ask again.
    pub(crate) fn due(&mut self, now: u64) -> Vec<BlobId> {
        let mut due = Vec::new();
        for (blob, retry) in &mut self.retries {
            if retry.at <= now && !retry.asked && self.listens {
                retry.asked = true;
                self.told.remove(blob);
                due.push(*blob);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_never_emptied_grows_no_more_than_what_the_peer_has() {
        let mut link = Link::new(1);
        for n in 0..100_000_u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            link.note_have(BlobId(id), None, n % 2 == 0, 0);
            link.forget(&BlobId(id));
        }
        assert!(link.ready.iter().all(|queue| queue.len() <= SLACK + 4));
    }
}
