//! Whole nodes in one process, for tests: networks of them, feeds to fill them with, and peers that misbehave.
//!
//! A [`World`] is a network of its own, with its own key and its own temporary directories, so that tests can run beside
//! one another and beside a real node. Its nodes listen on loopback at a port of the system's choice. Waiting is always for
//! something to happen, never for time to pass, and fails with an account of the node's state after [`PATIENCE`].
//!
//! ```
//! use sbot_testbot::{World, post};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let world = World::new()?;
//! let (a, b) = (world.node("a").await?, world.node("b").await?);
//! for text in ["one", "two", "three"] {
//!     a.publish(post(text)).await?;
//! }
//! b.follow(&a).await?;
//! b.connect(&a).await?;
//! b.until_has(a.id(), 3).await?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Setup`] changes a node's settings before it starts, and starts it again in the same directory after
//!   [`TestNode::stop`].
//! - [`RawPeer`] shakes hands properly and then says whatever a test wants, in bytes, packets or calls; [`EbtPeer`] does so
//!   within `ebt.replicate`.
//! - [`blobs`] makes blobs, and peers that serve them as badly as a test wants.
//! - [`feeds`] makes signed messages out of nothing: the same seed, the same bytes.

pub mod blobs;
pub mod feeds;
mod node;
mod raw;
mod world;

pub use node::{TestNode, Whom};
pub use raw::{EbtPeer, RawPeer};
pub use world::{PATIENCE, Setup, World, post};
