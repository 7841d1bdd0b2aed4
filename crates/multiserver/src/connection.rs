//! A connection whose other end is known.

use std::fmt;

use sbot_feed::FeedId;
use tokio::io::{AsyncRead, AsyncWrite};

/// Who dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We did.
    Dialed,
    /// The other side did.
    Accepted,
}

/// A connection whose other end is known: proven by the handshake, or local.
pub struct Connection {
    /// Who is at the other end; our own key if it came without a handshake.
    pub remote: FeedId,
    /// Whether the other end acts for us: it came over a transport that only we can reach, or has our own key.
    pub local_client: bool,
    /// Where the other end is, as ssb-server shows it: `net:IP:PORT~shs:KEY` or `unix:PATH~noauth:KEY`.
    pub address: String,
    /// Who dialed.
    pub direction: Direction,
    /// What the other end sends.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// What we send. It is buffered: flush it. Shutting it down ends the stream properly.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("local_client", &self.local_client)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}
