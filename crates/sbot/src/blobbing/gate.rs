//! What peers may, as far as blobs go: the seam to whoever decides.

use std::sync::Arc;

use parking_lot::RwLock;
use sbot_blobs::{Gate, Open};
use sbot_feed::{BlobId, FeedId};

/// Decides what peers may: see [`sbot_blobs::Gate`] for the questions. It is asked under the exchange's lock, so it must
/// answer at once, from memory.
pub use sbot_blobs::Gate as BlobGate;

/// The gate that was chosen last; as ssb-blobs has it until one was: open to every peer that may connect.
pub(super) struct ChosenGate(RwLock<Arc<dyn BlobGate>>);

impl Default for ChosenGate {
    fn default() -> Self {
        Self(RwLock::new(Arc::new(Open)))
    }
}

impl ChosenGate {
    pub(super) fn choose(&self, gate: Arc<dyn BlobGate>) {
        *self.0.write() = gate;
    }
}

impl Gate for ChosenGate {
    fn may_have(&self, peer: &FeedId, blob: &BlobId, size: u64) -> bool {
        self.0.read().may_have(peer, blob, size)
    }

    fn may_pass_on(&self, peer: &FeedId, blob: &BlobId, distance: u32) -> bool {
        self.0.read().may_pass_on(peer, blob, distance)
    }

    fn may_be_asked(&self, peer: &FeedId, blob: &BlobId, own: bool) -> bool {
        self.0.read().may_be_asked(peer, blob, own)
    }
}
