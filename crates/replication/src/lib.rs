//! Replication: which message goes to whom.
//!
//! [`ebt`] and [`history`] decide, without IO: the former for peers that speak epidemic broadcast trees, the latter for
//! those that only know `createHistoryStream`. [`Wants`] says which feeds it is about. [`Replicator`] carries out what
//! they decide, over the log and the connections of a node.
//!
//! A message from a peer is taken only if its feed is wanted and the peer was told so; it is parsed and verified by the
//! store. One that forks its feed or is invalid stops this feed with this peer and is told as an [`Event`]; the connection
//! goes on.

mod backfill;
pub mod ebt;
pub mod history;
mod link;
mod replicator;
mod stream;
mod wants;

pub use ebt::{Event, OwnFeed, PeerStatus, Progress, Replicating};
pub use replicator::{Options, PeerClocks, Replicator};
pub use wants::Wants;
