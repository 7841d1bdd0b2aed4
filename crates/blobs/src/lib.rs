//! Blobs: who looks for which, who has them, and what to fetch from whom.
//!
//! A blob is up to some megabytes of anything, named by its SHA-256 (`&….sha256`). The bytes lie in
//! `sbot_store::BlobStore`; this crate knows what is asked. [`Request`] reads the arguments of `blobs.get` and
//! `blobs.getSlice` and says which bytes to send.
//!
//! Peers tell each other what they look for over `blobs.createWants`, in objects of ids and numbers ([`read_notes`]): a
//! negative number is a want, the distance to whoever wishes (−1 the peer itself, −2 a peer of it), a positive one the size
//! of a blob that the peer has. What a peer wants and we lack we want too, one step farther, out of sympathy.
//!
//! [`Exchange`] is that protocol for one node. It does no IO: tell it who is connected, what peers say
//! ([`Exchange::heard`]), what clients want and what has become of transfers; it answers with [`Effect`]s, and holds for
//! each peer what to tell it next ([`Exchange::notes_for`]). Who may have or ask what is for a [`Gate`] to say.
//!
//! [`garbage`] says which blobs can go, and why.
//!
//! Source: `ssb-blobs/inject.js` 1.2 and 2.0, `multiblob/{index,util}.js`.

mod ageing;
mod effect;
mod exchange;
mod fetching;
mod garbage;
mod gate;
mod link;
mod note;
mod own;
mod request;
mod saved;
mod settings;
mod want;

pub use effect::{Effect, Ended, Found};
pub use exchange::{Counts, Exchange, TooMany};
pub use garbage::{Quotas, Reason, Stored, garbage};
pub use gate::{Gate, Open};
pub use note::{Note, read_notes};
pub use request::{Request, RequestError};
pub use saved::Saved;
pub use settings::{
    DISK_PAUSE, MAX_BAD, MAX_DOUBLINGS, MAX_FETCHES, MAX_FETCHES_FROM_PEER, MAX_PARTIALS, MAX_PENDING, MAX_PUSHES,
    MAX_RECENT, MAX_WANTS, MAX_WANTS_OF_OTHERS, MAX_WANTS_OF_PEER, OTHERS_AGE, OWN_AGE, PARTIAL_AGE, PUSH_AGE,
    RETRY_PAUSE, Settings,
};

/// The largest blob that a peer sends or fetches unasked, in bytes (`max` in `ssb-blobs/inject.js`).
pub const MAX_REPLICATED_SIZE: u64 = 5 * 1024 * 1024;

/// How many bytes of a blob go into one packet (`pull-file`'s buffer).
pub const CHUNK: usize = 40 * 1024;

/// The id of the blob of no bytes, which everyone has.
pub const EMPTY: &str = "&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256";

/// [`EMPTY`], as bytes.
const EMPTY_HASH: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Whether `id` names the blob of no bytes.
#[must_use]
pub fn is_empty_blob(id: &sbot_feed::BlobId) -> bool {
    *id.as_bytes() == EMPTY_HASH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blob_of_no_bytes_is_known_by_its_hash() {
        assert!(is_empty_blob(&EMPTY.parse().unwrap()));
        assert!(!is_empty_blob(&sbot_feed::BlobId([0; 32])));
    }
}
