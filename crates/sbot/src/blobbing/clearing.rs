//! Room: how much the blobs take, what can go, and letting it go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sbot_blobs::{Quotas, Reason, Stored, garbage, is_empty_blob};
use sbot_feed::{BlobId, FeedId};
use sbot_store::{BlobMeta, Store, StoreError};

use super::mentions::each_mention;
use super::{Blobs, Kept};
use crate::private::Boxes;

/// How long a blob stays that no message mentions, if the caller doesn't say, in ms: a day.
pub(crate) const GRACE: u64 = 24 * 60 * 60 * 1000;

impl Blobs {
    /// What can go, and why. Blocks: it reads the whole log.
    ///
    /// # Errors
    /// What reading the log or the directory meets.
    pub(crate) fn garbage(&self, log: &Store, boxes: &Boxes, grace: u64) -> Result<Vec<(Stored, Reason)>, StoreError> {
        let here: Vec<BlobMeta> = self.store.ls()?;
        let mut stored: HashMap<BlobId, Stored> = here.iter().map(|meta| (meta.id, self.known(meta))).collect();
        each_mention(log, boxes, |record, ids| {
            for id in ids {
                if let Some(blob) = stored.get_mut(&id) {
                    blob.author.get_or_insert(record.author);
                    blob.kept |= record.author == self.own;
                }
            }
        })?;
        let quotas = Quotas { grace, ..self.quotas };
        Ok(garbage(stored.into_values().collect(), &quotas, self.now()))
    }

    fn known(&self, meta: &BlobMeta) -> Stored {
        let Kept { own, pinned, used } = self.keeping.get(&meta.id);
        // the file's own time counts for blobs that were here before this was kept account of
        let used = used.max(meta.modified.max(0.0) as u64);
        let needed = self.exchange.lock().is_pushed(&meta.id);
        Stored { id: meta.id, size: meta.size, used, author: None, kept: own || pinned || needed }
    }

    /// Deletes a blob that can go, unless it was pinned or added meanwhile. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn clear(self: &Arc<Self>, id: &BlobId) -> Result<bool, StoreError> {
        let Kept { own, pinned, .. } = self.keeping.get(id);
        if own || pinned {
            return Ok(false);
        }
        self.rm(id)
    }

    /// Pins a blob, or takes the pin out; false if it isn't here. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn pin(&self, id: BlobId, pinned: bool) -> Result<bool, StoreError> {
        if is_empty_blob(&id) {
            return Ok(true);
        }
        let is_here = self.store.has(&id)?;
        if is_here || !pinned {
            self.keeping.change(id, |kept| kept.pinned = pinned);
            self.unsaved.notify_one();
        }
        Ok(is_here)
    }

    /// What is remembered of a blob.
    pub(crate) fn kept(&self, id: &BlobId) -> Kept {
        self.keeping.get(id)
    }

    /// How many bytes the blobs take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How much may be kept.
    pub(crate) fn quotas(&self) -> Quotas {
        self.quotas
    }

    /// Counts the blobs that are there. Blocks.
    pub(super) fn count(self: &Arc<Self>) {
        match self.store.ls() {
            Ok(blobs) => {
                self.bytes.store(blobs.iter().map(|blob| blob.size).sum(), Ordering::Relaxed);
                self.look_at_quota();
            }
            Err(error) => tracing::error!(%error, "the blobs can't be counted"),
        }
    }

    /// So many bytes have come. When the quota is full nothing more is fetched for others.
    pub(super) fn grow(&self, size: u64) {
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.look_at_quota();
    }

    pub(super) fn shrink(&self, size: u64) {
        // what was deleted behind our back was counted, too
        let less = |bytes: u64| Some(bytes.saturating_sub(size));
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.look_at_quota();
    }

    fn look_at_quota(&self) {
        if let Some(quota) = self.quotas.total {
            let full = self.bytes() >= quota;
            self.exchange.lock().set_full(full);
        }
    }
}

/// Why a blob can go, for people, and whose quota it is if it is one's.
pub(crate) fn why(reason: &Reason) -> (&'static str, Option<FeedId>) {
    match reason {
        Reason::Unmentioned => ("no message mentions it", None),
        Reason::Old => ("nobody has read it for longer than blobs.maxAge", None),
        Reason::AuthorQuota(author) => ("its author's blobs are more than blobs.authorQuota", Some(*author)),
        Reason::Quota => ("all blobs are more than blobs.quota", None),
    }
}
