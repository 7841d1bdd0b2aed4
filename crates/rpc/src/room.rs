//! What waits in all streams of one connection, and who waits for what else comes over it.
//!
//! The reader fills the streams' queues and waits when they are full. If it waits for a consumer that itself waits for
//! something behind the items not yet read (the answer to a call, say), neither would ever go on. So the reader knows
//! here whether anybody is waiting for it: while answers are due, a single stream may use the room of all; and if nothing
//! moves for long while others wait, the stream that holds them up is given up (see `reader.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counted for each queued item on top of its bytes: what it takes to keep it.
pub(crate) const ITEM_COST: usize = 64;

/// Shared by a connection's streams and its reader.
#[derive(Default)]
pub(crate) struct Room {
    queued: AtomicUsize,
    answers: AtomicUsize,
    hungry: AtomicUsize,
    /// The reader may look again: room came up, or the rules were relaxed.
    pub(crate) changed: Notify,
}

impl Room {
    /// Bytes that wait in all streams, with [`ITEM_COST`] for each item.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self, cost: usize) {
        self.queued.fetch_add(cost, Ordering::AcqRel);
    }

    pub(crate) fn free(&self, cost: usize) {
        self.queued.fetch_sub(cost, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Whether the answer to a lone request is being waited for.
    pub(crate) fn answer_is_due(&self) -> bool {
        self.answers.load(Ordering::Acquire) > 0
    }

    /// Whether anybody waits for the other side: for an answer, an item, or room to send.
    pub(crate) fn somebody_waits(&self) -> bool {
        self.hungry.load(Ordering::Acquire) > 0
    }

    /// Counts as waiting until dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        self.hungry.fetch_add(1, Ordering::AcqRel);
        Waiting { room: Arc::clone(self), answer: false }
    }

    /// Counts as waiting for an answer until dropped.
    pub(crate) fn wait_for_answer(self: &Arc<Self>) -> Waiting {
        self.hungry.fetch_add(1, Ordering::AcqRel);
        self.answers.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
        Waiting { room: Arc::clone(self), answer: true }
    }
}

/// Somebody who waits.
pub(crate) struct Waiting {
    room: Arc<Room>,
    answer: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.room.hungry.fetch_sub(1, Ordering::AcqRel);
        if self.answer {
            self.room.answers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
