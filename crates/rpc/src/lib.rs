//! mux-rpc: many calls over one connection, both ways.
//!
//! A side offers methods by a [`Registry`] and calls the other's by a [`Peer`] (or by a [`Client`], which looks into the
//! other's [`Manifest`] first); [`Session::spawn`] joins them over any pair of byte streams. Methods are `sync`, `async`,
//! `source`, `sink` or `duplex`; bodies are JSON, text or bytes.
//!
//! [`codec`] (packets) and [`streams`] (which calls are open) do no IO. Around them, one task reads, one writes, and each
//! call has its own. Every queue is bounded ([`Limits`]): the reader waits for streams that are not read, senders wait for
//! the socket, and a peer that asks without reading the answers is no longer read. mux-rpc can't hold back one stream
//! alone: while one is full, everything behind it waits. A [`Meter`] can slow a connection down, or end it.
//!
//! Source: packet-stream-codec, packet-stream and muxrpc, as ssb-server 16 and secret-stack 6 use them.

mod client;
pub mod codec;
mod ends;
mod error;
mod input;
mod manifest;
mod meter;
mod outbox;
mod peer;
mod pipe;
mod reader;
mod registry;
mod room;
mod session;
mod shared;
pub mod streams;

pub use client::Client;
pub use codec::Body;
pub use ends::{Inlet, Outlet, Sink, Source, Turn};
pub use error::{CallError, RpcError};
pub use manifest::Manifest;
pub use meter::{Meter, Pace};
pub use peer::{Counters, Peer};
pub use registry::{Call, Kind, Registry};
pub use session::{Limits, Session};
