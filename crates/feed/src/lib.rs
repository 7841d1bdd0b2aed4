//! Keys, references, classic messages (exact encoding, hash, signature, validation rules) and private boxes of
//! Secure Scuttlebutt.
//!
//! A message's way in: [`parse_message`] → [`verify_batch`] → [`check_next`]; its way out: [`Message::value`], the bytes
//! as they are. An own message: [`create_message`]. Nothing here does IO or reads a clock; randomness comes in as an
//! argument, except in [`Keypair::generate`] and [`private_box::BoxSeed::generate`].

mod batch;
mod create;
#[cfg(test)]
mod edge_signatures;
pub mod json;
mod keys;
mod message;
pub mod private_box;
mod refs;
mod rules;
pub mod secret;
pub mod uri;

pub use batch::verify_batch;
pub use create::create_message;
pub use keys::{HmacKey, KeyError, Keypair, NetworkKey, verify};
pub use message::{FeedTip, Message, MessageError, Unverified, check_next, content_of, write_key_value_timestamp};
pub use refs::{BlobId, FeedId, MsgId, RefError};
pub use rules::{MAX_INPUT, MAX_LENGTH, message_id, parse_message};
