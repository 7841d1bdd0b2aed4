//! Secret handshake and box stream: how two peers prove who they are to each other, and then talk in private.
//!
//! A client that knows the server's public key and both that know the network's key exchange four messages of 64, 64,
//! 112 and 80 bytes. After it each side knows the other's key, and nobody else learns either. A wrong network key or
//! server key is met with silence and a closed connection. Each direction then is a stream of boxes, encrypted and
//! authenticated under a key of its own.
//!
//! - [`handshake`]: the two roles as state machines without IO: [`handshake::Client`] and [`handshake::Server`] take
//!   the messages received and return those to send. Randomness comes in as an argument.
//! - [`boxstream`]: [`boxstream::Sealer`] and [`boxstream::Opener`], without IO.
//! - [`dial`] and [`accept`]: both over anything that tokio can read and write, giving a [`Secure`] pair of halves.
//!   They set no time limits: the caller does, around the whole call.
//!
//! Source: "Designing a Secret Handshake" (Dominic Tarr, 2015); secret-handshake 1.1 `crypto.js` and `protocol.js`;
//! pull-box-stream 1.0 `index.js`.

pub mod boxstream;
pub mod handshake;
mod secretbox;
mod stream;
mod wrapper;

pub use stream::{SecureReader, SecureWriter};
pub use wrapper::{Secure, ShsError, Stage, accept, accept_split, dial, dial_split};
