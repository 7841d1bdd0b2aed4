//! Epidemic broadcast trees, version 3: which message goes to whom, over all connections of a node.
//!
//! Both sides of a connection tell each other by [notes] how far they are with each feed and whether they want
//! what follows; messages come on the same stream. A feed is asked of one peer at a time, its *source*; the others are
//! told not to send it. They still tell when they have something newer, and if the source then doesn't deliver, another
//! takes its place. So messages flow along a tree, and the rest of the connections stands by.
//!
//! [`Ebt`] holds the state of all connections. It does no IO and reads no clock. Facts go in: [`Ebt::connect`],
//! [`Ebt::heard`] (notes), [`Ebt::accept`] and [`Ebt::outcome`] (messages), [`Ebt::appended`], [`Ebt::want`],
//! [`Ebt::block`], [`Ebt::tick`]. What to do comes out when asked for: [`Ebt::take_notes`] and [`Ebt::next_run`] for one
//! connection, [`Ebt::take_woken`] says which connections to ask.
//!
//! The rules, where they go beyond the reference or differ:
//! - Who was dialed sends its notes first, an empty object if there is nothing to say; who dialed waits for them, so that
//!   a peer without EBT can answer with an error.
//! - A feed isn't mentioned if, by what both last said, both are equally far. That needs the peer's clock *and* what we
//!   told the peer: both are kept across connections ([`Ebt::clock`]). The reference keeps only the former, and treats a
//!   kept −1 as final; two peers that once refused a feed to each other and want it now never find out (ssb-ebt#61).
//!   Here a −1 counts for the connection on which it was said; on later ones, the feed is mentioned once it has changed.
//! - A lower number than before is believed: the peer may have lost its log.
//! - A repeated request for a feed that is being sent rewinds it only if the peer got no further since: else the request
//!   just crossed our messages.
//! - When the source of a feed is lost, another peer that has more takes over at once, and not only after a timeout.
//! - A feed that comes forked or invalid is stopped with that peer until the connection ends, and never more than that.
//!
//! Source: epidemic-broadcast-trees 9 `events.js`, ssb-ebt 5.6 and 9 `index.js`.

mod flow;
mod listen;
pub mod notes;
mod report;
#[cfg(test)]
mod simulation;
mod stall;
mod state;
#[cfg(test)]
mod tests;
mod want;

pub use flow::{Accept, Outcome, Run};
pub use notes::{Item, MAX_NOTES, MAX_SEQUENCE, Note, Notes, parse_notes, read_item, write_notes};
pub use report::{OwnFeed, PeerStatus, Progress, Replicating};
pub use state::{Ebt, Event, Link, MAX_ELSEWHERE, NOTES_AT_A_TIME, Settings};
