//! What is for somebody else to decide: whether a peer may have a blob, or ask for one, or be asked.

use sbot_feed::{BlobId, FeedId};

/// Says what peers may. It is asked anew each time, so what it says may change while peers are connected.
pub trait Gate: Send + Sync {
    /// Whether `peer` may have `blob`, of `size` bytes, and learn that it is here. A refusal looks to the peer as if it
    /// weren't.
    fn may_have(&self, peer: &FeedId, blob: &BlobId, size: u64) -> bool;

    /// Whether `blob` is looked for because `peer` wants it, `distance` steps away from whoever wishes. Other peers then
    /// learn that somebody does.
    fn may_pass_on(&self, peer: &FeedId, blob: &BlobId, distance: u32) -> bool;

    /// Whether `peer` may learn that `blob` is looked for, by us or, if not `own`, by somebody else.
    fn may_be_asked(&self, peer: &FeedId, blob: &BlobId, own: bool) -> bool;
}

/// As ssb-blobs: everything is open to every peer that may connect.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Gate for Open {
    fn may_have(&self, _: &FeedId, _: &BlobId, _: u64) -> bool {
        true
    }

    fn may_pass_on(&self, _: &FeedId, _: &BlobId, _: u32) -> bool {
        true
    }

    fn may_be_asked(&self, _: &FeedId, _: &BlobId, _: bool) -> bool {
        true
    }
}
