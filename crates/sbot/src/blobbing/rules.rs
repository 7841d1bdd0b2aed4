//! What the policy says of blobs.

use std::sync::Arc;

use sbot_feed::{BlobId, FeedId};

use super::BlobGate;
use crate::gate::Gate;

/// The rules `blobs.serve`, `blobs.large`, `blobs.passOn` and `blobs.tellWants`.
pub(super) struct BlobRules {
    pub(super) gate: Arc<Gate>,
}

impl BlobGate for BlobRules {
    fn may_have(&self, peer: &FeedId, _: &BlobId, size: u64) -> bool {
        self.gate.serves_blob(peer, size)
    }

    fn may_pass_on(&self, peer: &FeedId, _: &BlobId, _: u32) -> bool {
        self.gate.passes_wants_on(peer)
    }

    fn may_be_asked(&self, peer: &FeedId, _: &BlobId, _: bool) -> bool {
        self.gate.tells_wants(peer)
    }
}
