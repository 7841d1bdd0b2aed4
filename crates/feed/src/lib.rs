//! Keys, references, classic messages (exact encoding, hash, signature, validation rules) and private boxes of
//! Secure Scuttlebutt.

mod refs;

pub use refs::{BlobId, FeedId, MsgId, RefError};
