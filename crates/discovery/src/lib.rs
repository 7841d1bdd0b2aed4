//! Discovery: sources that say where peers might be.
//!
//! A [`Sighting`] is a claim: somebody says that a peer is at an address. Only a handshake proves it. [`Sightings`] is
//! the one stream into which all sources flow; a [`Spotter`] is a source's end of it. Sources today:
//! - addresses from the settings and by hand ([`Spotter::seeds`], [`Spotter::see`]);
//! - the local network, where peers announce themselves by UDP broadcast and multicast: [`lan`] and [`lan_boxed`] read and write what
//!   they send, [`Neighbours`] remembers who was heard lately, [`LanSockets`] are the sockets and the task;
//! - multicast DNS, by which they do so too: [`mdns`] says how, [`Mdns`] is the task;
//! - the distributed hash table of BitTorrent, in which friends can be looked up: [`dht`] says how, [`run_dht`] is the task;
//! - feeds, in which people tell of pubs: [`pubs`] reads what they tell and chooses from it.

mod broadcast;
pub mod dht;
mod dht_node;
mod hosts;
pub mod lan;
pub mod lan_boxed;
pub mod mdns;
mod mdns_daemon;
mod neighbours;
pub mod pubs;
mod sighting;

pub use broadcast::{Announcement, Announcer, Everyone, LanSocket, LanSockets};
pub use dht_node::{DhtSettings, run_dht};
pub use mdns_daemon::Mdns;
pub use neighbours::{MOST, MOST_OF_FRIEND, MOST_OF_ONE, Neighbours};
pub use sighting::{News, Origin, Refused, Sighting, Sightings, Spotter, WAITING, sightings};
