//! What this node looks for and what it wants spread.
//!
//! [`Wants::want`] and [`Wants::push`] note a wish, [`Wants::added`] a blob that has come. Each answers with the
//! [`notes`](Wants::notes) to tell whoever reads `blobs.createWants`: one object of ids and numbers, negative for a wish.

use std::collections::{BTreeMap, BTreeSet};

use sbot_feed::BlobId;
use serde_json::{Map, Value};

/// How many blobs may be looked for at once: each costs some 50 bytes here and in every peer.
pub const MAX_WANTS: usize = 16 * 1024;

/// How many blobs may be waiting to be spread at once.
pub const MAX_PUSHES: usize = 16 * 1024;

/// Our own wish, in the notes.
const OWN_WISH: i64 = -1;

/// The list is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} blobs are {what} already; wait until some have come")]
pub struct TooMany {
    limit: usize,
    what: &'static str,
}

/// Wishes of this node.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    wants: BTreeSet<BlobId>,
    pushes: BTreeSet<BlobId>,
}

impl Wants {
    /// No wishes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `id` is looked for. Answers whether that is news.
    ///
    /// # Errors
    /// [`TooMany`] beyond [`MAX_WANTS`].
    pub fn want(&mut self, id: BlobId) -> Result<bool, TooMany> {
        if self.wants.len() >= MAX_WANTS && !self.wants.contains(&id) {
            return Err(TooMany { limit: MAX_WANTS, what: "looked for" });
        }
        Ok(self.wants.insert(id))
    }

    /// Notes that `id` should be taken by others. Answers whether that is news.
    ///
    /// # Errors
    /// [`TooMany`] beyond [`MAX_PUSHES`].
    pub fn push(&mut self, id: BlobId) -> Result<bool, TooMany> {
        if self.pushes.len() >= MAX_PUSHES && !self.pushes.contains(&id) {
            return Err(TooMany { limit: MAX_PUSHES, what: "waiting to be spread" });
        }
        Ok(self.pushes.insert(id))
    }

    /// Notes that `id` is here now. Answers whether it was looked for.
    pub fn added(&mut self, id: &BlobId) -> bool {
        self.wants.remove(id)
    }

    /// Whether `id` is looked for.
    #[must_use]
    pub fn is_wanted(&self, id: &BlobId) -> bool {
        self.wants.contains(id)
    }

    /// All wishes as `blobs.createWants` tells them first.
    #[must_use]
    pub fn notes(&self) -> Map<String, Value> {
        self.wants.union(&self.pushes).map(|id| (id.to_string(), OWN_WISH.into())).collect()
    }

    /// One wish as `blobs.createWants` tells it later.
    #[must_use]
    pub fn note(id: &BlobId) -> BTreeMap<String, i64> {
        BTreeMap::from([(id.to_string(), OWN_WISH)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(n: u64) -> BlobId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        BlobId(bytes)
    }

    #[test]
    fn a_wish_is_told_until_the_blob_is_there() {
        let mut wants = Wants::new();
        assert_eq!(wants.want(blob(1)), Ok(true));
        assert_eq!(wants.want(blob(1)), Ok(false));
        assert_eq!(wants.notes()[&blob(1).to_string()], -1);
        assert!(wants.added(&blob(1)));
        assert!(!wants.added(&blob(1)));
        assert!(wants.notes().is_empty());
    }

    #[test]
    fn a_blob_to_be_spread_is_told_as_a_wish() {
        let mut wants = Wants::new();
        wants.push(blob(2)).unwrap();
        assert_eq!(wants.notes()[&blob(2).to_string()], -1);
        assert!(!wants.is_wanted(&blob(2)));
    }

    #[test]
    fn there_are_never_more_wishes_than_the_bound() {
        let mut wants = Wants::new();
        for n in 0..MAX_WANTS as u64 {
            wants.want(blob(n)).unwrap();
        }
        assert!(wants.want(blob(u64::MAX)).is_err());
        assert_eq!(wants.want(blob(0)), Ok(false));
        wants.added(&blob(0));
        assert_eq!(wants.want(blob(u64::MAX)), Ok(true));
    }
}
