//! What a transport is: a way to carry bytes, without a notion of who is at the other end.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::Endpoint;

/// Something that takes a while.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to carry bytes.
pub trait Transport: Send + Sync {
    /// The name in addresses.
    fn name(&self) -> &'static str;

    /// Connects to `endpoint`; `None` if it isn't of this transport.
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Raw>>>;

    /// Listens at `endpoint`; `None` if it isn't of this transport.
    fn listen<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Box<dyn Acceptor>>>>;
}

/// A place that listens. Dropping it ends that.
pub trait Acceptor: Send {
    /// Waits for the next connection.
    fn accept(&mut self) -> Pending<'_, io::Result<Raw>>;

    /// Where it really listens (with the port that the system chose, if asked for any).
    fn endpoint(&self) -> &Endpoint;
}

/// Where a connection comes from, for limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A host on the network.
    Ip(IpAddr),
    /// This machine, through something that is not shared with others.
    Local,
}

/// A connection without a notion of who is at the other end.
pub struct Raw {
    /// What comes.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
    /// The other end's address in this transport, as `net:192.0.2.1:8008`.
    pub address: String,
    /// Whose limits it falls under.
    pub origin: Origin,
}
