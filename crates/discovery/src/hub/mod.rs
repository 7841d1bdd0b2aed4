//! Signalling hubs: servers at which peers meet that can't be dialed, to arrange a connection of their own.
//!
//! A hub passes messages on to whoever listens at the moment, over plain HTTP or HTTPS, and knows nothing of them
//! (`crates/hub`, npm `signalhub` 4.9). Peers of one network meet under a name that only they can make ([`HubNames`]):
//! one channel on which each says now and then that it is there, and for each a letter box, into which others post what
//! it takes to make a connection. What they say is a [`Said`]; nothing of it is believed before a handshake.
//!
//! [`join`] goes to a hub and stays until it is lost or left. What is heard there comes as [`HubEvent`]s; [`Hub`] is for
//! speaking. Coming back after a loss is the caller's affair.
//!
//! What strangers can cause is bounded: [`sse`] and [`Said`] in length, [`Rates`] in number, [`Attendance`] in how many
//! are remembered. In each of them those whom we know from the social graph come first: a crowd of invented peers can't
//! crowd them out. Known by name only: whoever lies about who it is can use up a friend's share of a hub that it shares
//! with it, and nothing more.

mod attendance;
mod http;
mod join;
mod message;
mod names;
mod rates;
pub mod sse;
mod stream;
mod visit;

pub use attendance::{Attendance, MOST_KNOWN, MOST_STRANGERS, Presence};
pub use http::HubError;
pub use join::{Hops, Hub, HubCounts, HubEvent, HubSettings, WAITING_EVENTS, WAITING_POSTS, join};
pub use message::{MAX_MESSAGE, NotUnderstood, Said};
pub use names::HubNames;
pub use rates::{Rate, Rates};
