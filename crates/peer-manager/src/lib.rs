//! The peer manager: who is known, at which addresses, who is connected, and whom to dial when.
//!
//! It is a reducer: [`State`] + [`Action`] + the time give a new state and [`Effect`]s. Actions are facts ("this dial
//! failed", "the user wants this peer"), effects are wishes ("dial that", "hang up on this one", "wake me then"). The
//! runtime makes effects happen and reports what came of them as actions. There is no IO in here, no clock, and no
//! randomness but a seed in the state, so that the same actions always lead to the same state and effects.
//!
//! ```text
//!            ConnectRequested, or due           RemotePeerConnectionSucceeded
//! disconnected ──────────────▶ connecting ──────────────────────────────▶ connected
//!    ▲  ▲                          │                                        │   │ DisconnectRequested
//!    │  └── pause, then due ◀──────┘ RemotePeerConnectionFailed             │   ▼
//!    └───────────────────────────────────── RemotePeerDidDisconnect ◀───────┴─ disconnecting
//! ```
//! Whoever dials us is `connected` at once (`RemotePeerClientDidConnect`). What it decides today:
//! - Peers that the user connected or remembered, those in the settings (seeds), and those on the local network that we
//!   follow are dialed, and dialed again when the link is lost, after pauses that double with every failure up to a
//!   limit, each lengthened by chance.
//! - A peer's routes are tried one after another, the one that worked last first; a pause begins when all have failed.
//! - At most one link to one peer. When both ends dialed at once, both keep the link that the smaller key dialed.
//! - Neither our own key nor a banned peer is ever dialed; a banned one that dials in is hung up on.
//! - The numbers of peers, routes, dials under way and links are bounded ([`Settings`]).
//!
//! [`State::why`] says for any peer why it is or isn't connected.

mod action;
mod reduce;
mod schedule;
mod state;
mod why;

pub use action::{Action, Change, Effect, Refusal, WhyHungUp};
pub use state::{
    Attempt, AttemptId, Direction, Durations, KnownRoute, Link, LinkId, MAX_ROUTE, Millis, Peer, Saved, SavedPeer,
    Settings, Source, State, Status,
};
pub use why::Why;
