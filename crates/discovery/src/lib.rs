//! Discovery: sources that say where peers might be.
//!
//! A [`Sighting`] is a claim: somebody says that a peer is at an address. Only a handshake proves it. [`Sightings`] is
//! the one stream into which all sources flow; a [`Spotter`] is a source's end of it. Sources today: addresses from the
//! settings and by hand ([`Spotter::seeds`], [`Spotter::see`]). [`lan`] reads and writes what peers of the classic kind
//! broadcast on a local network; it has no sockets.

pub mod lan;
mod sighting;

pub use sighting::{Origin, Refused, Sighting, Sightings, Spotter, WAITING, sightings};
