//! What the exchange wants done, and what it is told of transfers.

use sbot_feed::{BlobId, FeedId};

/// A wish of the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// There is something to tell this peer: [`Exchange::notes_for`](crate::Exchange::notes_for).
    Tell(FeedId),
    /// Begin a transfer. Its end is to be told by [`Exchange::fetched`](crate::Exchange::fetched), whatever happens.
    Fetch {
        /// Which blob.
        blob: BlobId,
        /// From whom.
        peer: FeedId,
        /// From which byte: there are so many already, from a transfer that was broken off.
        from: u64,
        /// Most bytes that the blob can have.
        limit: u64,
    },
    /// Break off the transfer of this blob: nobody wants it any more, or it is here.
    Stop(BlobId),
    /// Forget the bytes of a broken-off transfer.
    Discard(BlobId),
    /// Tell whoever waits for this blob.
    Done(BlobId, Found),
    /// Enough peers have this pushed blob.
    Pushed(BlobId),
    /// What is to be remembered over a restart has changed: [`Exchange::saved`](crate::Exchange::saved).
    Save,
}

/// What has become of a want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The blob is here.
    Here,
    /// Nobody had it for too long.
    Expired,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The blob is stored; so many bytes.
    Here(u64),
    /// The peer doesn't have it, or won't give it.
    Absent,
    /// The peer has gone, or sent nothing for too long. So many bytes are there, those of earlier transfers included.
    Broken(u64),
    /// What came is something else, or too long. It was thrown away.
    Wrong,
    /// It couldn't be stored, on a full disk for one. It was thrown away.
    Unstored,
}
