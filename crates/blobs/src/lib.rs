//! Blobs as clients and peers ask for them.
//!
//! A blob is up to some megabytes of anything, named by its SHA-256 (`&….sha256`). The bytes lie in
//! `sbot_store::BlobStore`; this crate knows what is asked: [`Request`] reads the arguments of `blobs.get` and
//! `blobs.getSlice` and says which bytes to send, and [`Wants`] holds what this node looks for and what it wants spread.
//!
//! On the wire a want is a negative number, the distance to the wish (−1 is our own), and a blob that is there is its
//! size. Neither type does IO.
//!
//! Source: `ssb-blobs/inject.js`, `multiblob/{index,util}.js`.

mod request;
mod wants;

pub use request::{Request, RequestError};
pub use wants::{MAX_PUSHES, MAX_WANTS, TooMany, Wants};

/// The largest blob that a peer sends or fetches unasked, in bytes (`max` in `ssb-blobs/inject.js`).
pub const MAX_REPLICATED_SIZE: u64 = 5 * 1024 * 1024;

/// How many bytes of a blob go into one packet (`pull-file`'s buffer).
pub const CHUNK: usize = 40 * 1024;

/// The id of the blob of no bytes, which everyone has.
pub const EMPTY: &str = "&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256";

/// Whether `id` names the blob of no bytes.
#[must_use]
pub fn is_empty_blob(id: &sbot_feed::BlobId) -> bool {
    id.to_string() == EMPTY
}
