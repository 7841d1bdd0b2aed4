//! Multiserver: where peers are, and how to get there.
//!
//! An [`Address`] such as `net:example.org:8008~shs:KEY` names a transport (TCP) and what protects the connection (the
//! secret handshake with that key). Several are joined by `;`: alternatives for one peer.
//!
//! - [`InviteCode`] is an address with the seed of a key to dial with: the invite of a pub.
//! - [`Dialer`] turns an address into a [`Connection`]; [`dial`] does so with the default settings.
//! - [`Listener`] yields a [`Connection`] for everyone who dials us and proves who it is, within bounds on those who
//!   don't.
//! - [`HubAddress`] is a signalling hub, where peers without a public address meet.
//! - [`Transport`] is what a new way to carry bytes implements; here are TCP ([`Net`]) and unix sockets ([`Unix`]).
//!
//! Source: multiserver 3 `compose.js` and `plugins/`, multiserver-address 1, ssb-ref 2.16 `index.js`.

mod address;
mod connection;
mod dialer;
mod half_open;
mod hub;
mod invite;
mod legacy;
mod listener;
mod log;
mod net;
#[cfg(feature = "rtc")]
pub mod rtc;
mod transport;
mod unix;

pub use address::{Address, AddressError, Endpoint, MAX_ADDRESS, MAX_ROUTES, Protocol, Route};
pub use connection::{Connection, Direction};
pub use dialer::{DialError, DialSettings, Dialer, dial};
pub use hub::{HubAddress, HubAddressError, Session, SessionError};
pub use invite::{InviteCode, InviteError};
pub use listener::{Authorise, Bind, Counts, ListenError, ListenSettings, Listener, Protection};
pub use net::Net;
#[cfg(feature = "rtc")]
pub use rtc::{IceServer, Outgoing, Rtc, RtcSettings, Signal};
pub use transport::{Acceptor, Origin, Pending, Raw, Transport};
pub use unix::Unix;
