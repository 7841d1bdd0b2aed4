//! The append-only message log, its indexes, its live tail, and the blobs' bytes.
//!
//! [`Store::ingest`] takes in what others signed: one thread has batches parsed and verified by a pool, one thread writes.
//! [`Store::append_own`] takes in what we signed, and answers when it is on disk. Messages are stored in the bytes in
//! which they are served: [`Store::read_feed`] and [`Store::read_log`] hand out slices of what was read.
//! [`Store::watch`] tells when there is more.
//!
//! The log is the only truth: the index beside it is a copy to make starts fast, and may be deleted at any time.

mod blobs;
mod checkpoint;
mod core;
mod error;
mod forks;
mod index;
mod ingest;
mod log;
mod record;
mod store;
mod writer;

pub use blobs::{Adding, BlobMeta, BlobStore};
pub use error::{Refusal, StoreError};
pub use forks::Fork;
pub use ingest::Ingested;
pub use record::Record;
pub use store::{Direction, Progress, Store, StoreOptions};
pub use writer::Clock;
