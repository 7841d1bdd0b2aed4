//! What can be set, and the bounds of everything that peers can make us keep.

use crate::MAX_REPLICATED_SIZE;

/// How many blobs may be looked for at once by this node itself: each costs some 200 bytes here and in every peer.
pub const MAX_WANTS: usize = 16 * 1024;

/// How many blobs may be waiting to be spread at once.
pub const MAX_PUSHES: usize = 16 * 1024;

/// How many blobs are looked for at once for one peer. A client that scrolls through its feed looks for some hundreds.
pub const MAX_WANTS_OF_PEER: usize = 2048;

/// How many blobs are looked for at once for all peers together, so that many peers are no way around the bound of one.
pub const MAX_WANTS_OF_OTHERS: usize = 16 * 1024;

/// How many blobs are remembered that a peer said it has and that nobody wants yet: it may not say so again
/// (`available` in ssb-blobs, which has no bound).
pub const MAX_RECENT: usize = 256;

/// How many notes may wait for a peer that doesn't read them. Beyond it news of blobs that have come is dropped: whoever
/// looks for one asks.
pub const MAX_PENDING: usize = 64 * 1024;

/// How many wrong blobs one peer may send; after that nothing is fetched from it until it connects anew.
pub const MAX_BAD: usize = 32;

/// Transfers under way from one peer: enough that small blobs don't wait for each other's round trips.
pub const MAX_FETCHES_FROM_PEER: usize = 16;

/// Transfers under way in all: each has an open file and up to a megabyte in its queue.
pub const MAX_FETCHES: usize = 32;

/// Broken-off transfers whose bytes are kept, to be gone on with from another peer: each is a file of up to the largest
/// blob's size.
pub const MAX_PARTIALS: usize = 32;

/// How long the bytes of a broken-off transfer are kept, in milliseconds: long enough for a peer to come back.
pub const PARTIAL_AGE: u64 = 60 * 60 * 1000;

/// How long this node looks for a blob since it was last asked to, in milliseconds: a month.
pub const OWN_AGE: u64 = 30 * 24 * 60 * 60 * 1000;

/// How long a blob is looked for because a connected peer wants it, in milliseconds: a week. It ends with the peer's
/// connection anyway.
pub const OTHERS_AGE: u64 = 7 * 24 * 60 * 60 * 1000;

/// How long a blob waits to be taken by enough peers, in milliseconds: a year, since some nodes are online rarely.
pub const PUSH_AGE: u64 = 365 * 24 * 60 * 60 * 1000;

/// Pause before a peer that had a blob and couldn't send it is asked for it again, in milliseconds. It doubles each time.
pub const RETRY_PAUSE: u64 = 5_000;

/// How often that pause is doubled: up to 21 minutes.
pub const MAX_DOUBLINGS: u8 = 8;

/// Pause after a blob couldn't be stored, in milliseconds: a full disk is not filled faster by trying on.
pub const DISK_PAUSE: u64 = 60_000;

/// Settings of the exchange (`blobs` in the config of ssb-blobs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A peer's want is taken on if the blob is then wanted at most so far away: 3 helps the peer and a peer of its.
    pub sympathy: u8,
    /// Whether only blobs are served and told of that wait to be spread.
    pub stingy: bool,
    /// How many peers have to have a pushed blob.
    pub pushy: u8,
    /// The largest blob that is fetched, in bytes.
    pub max: u64,
}

impl Default for Settings {
    /// Those of ssb-blobs.
    fn default() -> Self {
        Self { sympathy: 3, stingy: false, pushy: 3, max: MAX_REPLICATED_SIZE }
    }
}
