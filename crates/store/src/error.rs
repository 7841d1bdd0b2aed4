//! What goes wrong with the files.

use std::io;
use std::path::{Path, PathBuf};

use sbot_feed::{BlobId, FeedId, MessageError};

/// Why the store can't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("{} is in use by another process: stop it first, or choose another directory", .0.display())]
    Locked(PathBuf),
    /// The operating system says no.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was tried, `can't write` for one.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An own message doesn't follow the own feed's last one.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The own feed has a damaged message: signing on top of the one before it would fork the feed.
    #[error("message {sequence} of {author} is damaged on this disk: wait until a peer has sent it again")]
    Damaged {
        /// The feed.
        author: FeedId,
        /// The first damaged message.
        sequence: u64,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// The log is as long as record numbers go.
    #[error("the log is full: it holds {0} messages")]
    Full(u64),
    /// A blob isn't what it was said to be.
    #[error("expected the blob {expected}, but the bytes are those of {found}")]
    BlobMismatch {
        /// What was asked for.
        expected: BlobId,
        /// What came.
        found: BlobId,
    },
    /// A blob's file doesn't hold the blob any more.
    #[error("the file of the blob {0} was damaged on this disk: it was deleted, and has to be fetched again")]
    BlobDamaged(BlobId),
    /// A blob is longer than allowed.
    #[error("the blob is longer than {limit} bytes")]
    BlobTooLong {
        /// Bytes.
        limit: u64,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io { action, path: path.to_owned(), source }
    }
}

/// Why a message was not taken in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The message is at fault.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// This store is at fault, by a full disk for one: the same message may be taken later.
    #[error("not stored: {0}")]
    Store(String),
}
