//! The peer manager: who is known, at which addresses, who is connected, and whom to dial when.
//!
//! It is a reducer: [`State`] + [`Action`] + the time give a new state and [`Effect`]s. Actions are facts ("this dial
//! failed", "the user wants this peer"), effects are wishes ("dial that", "hang up on this one", "wake me then"). The
//! runtime makes effects happen and reports what came of them as actions. There is no IO in here, no clock, and no
//! randomness but a seed in the state, so that the same actions always lead to the same state and effects ([`Replay`]).
//!
//! ```text
//!            ConnectRequested, or its turn      RemotePeerConnectionSucceeded
//! disconnected ──────────────▶ connecting ──────────────────────────────▶ connected
//!    ▲  ▲                          │                                        │   │ RemotePeerDisconnect, rotation, a ban
//!    │  └── pause, then its turn ◀─┘ RemotePeerConnectionFailed             │   ▼
//!    └───────────────────────────────────── RemotePeerDidDisconnect ◀───────┴─ disconnecting
//! ```
//! Whoever dials us is `connected` at once (`RemotePeerClientDidConnect`). What it decides:
//! - **Kept**: peers that the user connected or remembered, those in the settings (seeds), and those on the local network
//!   that we follow are dialed, and dialed again when the link is lost.
//! - **Candidates**: all others fill the free [`Slots`] of their [`Kind`], by [`Priority`], then those that have failed
//!   least, then by hops, then whoever was not tried for longest. A dial that isn't answered soon lets others be tried in
//!   its slot. Strangers on the local network are only shown.
//! - **Rotation**: a candidate's link whose lifetime is over, the sooner the more others wait, goes once one of them is
//!   connected; never while something is transferred.
//! - **Pauses** double with every failure up to a limit, each lengthened by chance; candidates rest for hours as long as
//!   there is any link that we dialed. Failures lower the priority, and whoever was never reached is forgotten in the end.
//!   When one dial after another fails, all slow down.
//! - Of several routes near ones go first, then those that worked; those of equal rank race, each a little later than the
//!   one before.
//! - At most one link to one peer. When both ends dialed at once, both keep the link that the smaller key dialed.
//! - Neither our own key nor a banned peer is ever dialed; a banned one that dials in is hung up on.
//! - Of those who dial us the least useful makes room when there are too many.
//! - **Hubs** are connected, announced to, and left; who announces itself there gets a route.
//! - The numbers of peers, routes, hubs, dials under way and links are bounded ([`Settings`]).
//!
//! [`State::why`] says for any peer why it is or isn't connected.

mod action;
mod hub;
mod links;
mod network;
mod peer;
mod record;
mod reduce;
mod route;
mod saved;
mod schedule;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod why;

pub use action::{Action, AttemptId, Change, Effect, HubChange, LinkId, Refusal, WhyHungUp};
pub use hub::{Hub, HubConnection};
pub use peer::{Attempt, Direction, Durations, Link, Peer, Priority, Status, Transfer};
pub use record::{Line, Replay, ReplayError, VERSION as RECORDING_VERSION};
pub use route::{Kind, KnownRoute, MAX_ROUTE, Source};
pub use saved::{Saved, SavedHub, SavedPeer};
pub use settings::{Settings, Slots};
pub use state::{Millis, State};
pub use why::{Stays, Why};
