//! The append-only message log, its indexes, live tails, import and export, and the blobs' bytes on disk.
//!
//! [`Store`] is the log. Messages come in through [`Store::ingest`] (from peers and files: parsed, verified, checked
//! against their feed) and [`Store::append_own`] (on disk before it answers); they go out as [`Record`]s in the very bytes
//! in which they are served again, by feed ([`Store::read_feed`]), in the order in which they came ([`Store::read_log`]),
//! by id, type, claimed time or link. [`Store::watch`] tells that there is more to read.
//!
//! The log's segments are the only truth. The index beside them ([`Store`] loads it at start) can be deleted or damaged
//! at any time: it is made again from the log. Damage in the log itself costs the damaged records and nothing else: the
//! feed counts as ending before the damaged message until somebody sends it again.
//!
//! One thread writes and another syncs, two gather what comes in and have it verified by a pool; readers need no more than a
//! short lock on the index. All calls but the few async ones block on the disk: keep them off async threads.
//!
//! [`BlobStore`] holds blobs by their hash, in ssb-blobs' layout.

mod blob_file;
mod blobs;
mod checkpoint;
mod claimed;
mod clock;
mod error;
mod forks;
mod index;
mod ingest;
mod links;
mod log;
mod open;
mod quarantine;
mod read;
mod record;
mod sidefile;
mod store;
mod syncing;
mod transfer;
mod writer;

pub use blob_file::BlobFile;
pub use blobs::{Adding, BlobMeta, BlobStore};
pub use clock::Clock;
pub use error::{Refusal, StoreError};
pub use forks::Fork;
pub use ingest::Ingested;
pub use links::{Link, LinkEnd, LinkQuery, links_of};
pub use open::{Progress, StoreOptions};
pub use quarantine::Damage;
pub use read::Direction;
pub use record::Record;
pub use store::Store;
pub use transfer::{ImportSummary, TransferProgress};
