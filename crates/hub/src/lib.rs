//! A signalling hub: a small HTTP server at which peers meet that can't be dialed, to arrange a connection of their own.
//!
//! It speaks the protocol of the npm package `signalhub`, so that its clients can use it. Whoever subscribes to channels
//! gets what is published there from then on; nothing is kept for later, and nobody is known by more than an address.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/APP/CHANNEL,CHANNEL…` | a stream of server-sent events that stays open: each message of these channels, and a comment every 30 seconds |
//! | `POST /v1/APP/CHANNEL` | the body goes to everyone who is subscribed to the channel; 200 and nothing, also if nobody is |
//! | `GET /` | `{name, version, subscribers}` |
//! | `GET /metrics` | counters in Prometheus' text format |
//! | anything else | 404 |
//!
//! [`Server`] is the whole; [`Limits`] say what strangers may make it do. What is decided is decided without IO: who
//! is subscribed to what and what waits for whom in `board`, who may do how much in `gate`, what a request means in
//! `request`. `server` is hyper around them.
//!
//! Differences from signalhub: a message of several lines arrives whole, instead of breaking the stream; a subscriber that
//! doesn't read is dropped, instead of being queued for without end; who asks for too much gets 429 or 503, and 413 for
//! a message that is too long.
//!
//! Source: npm `signalhub` 4.9.0, `server.js`, `index.js`.

mod board;
mod counts;
mod gate;
mod limits;
mod request;
mod server;

pub use counts::Counts;
pub use limits::{Limits, Settings};
pub use server::{Server, Watch};
