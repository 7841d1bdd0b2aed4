//! Calling the other side's methods.

use std::sync::Arc;

use serde::Serialize;

use crate::codec::{Body, Packet};
use crate::ends::{Sink, Source, Stream};
use crate::error::CallError;
use crate::registry::Kind;
use crate::room::Waiting;
use crate::shared::{Opening, Shared};

/// The other side of a connection. Clones speak over the same connection.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
}

/// How much went over a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent, or about to be.
    pub packets_out: u64,
    /// Calls open now, both ways.
    pub open: usize,
}

#[derive(Serialize)]
struct Request<'a, A: Serialize> {
    name: Vec<&'a str>,
    args: &'a A,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

/// Stops waiting for an answer when dropped.
struct Asked {
    shared: Arc<Shared>,
    key: i32,
    _waiting: Waiting,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.shared.forget(self.key);
    }
}

fn request<A: Serialize>(method: &str, args: &A, kind: Option<Kind>) -> Result<Body, CallError> {
    let request = Request { name: method.split('.').collect(), args, kind: kind.map(Kind::name) };
    Body::json(&request).map_err(|error| CallError::Arguments(error.to_string()))
}

impl Peer {
    pub(crate) fn new(shared: Arc<Shared>) -> Peer {
        Peer { shared }
    }

    /// Calls an async or sync method, dots between the parts of its name. `args` must serialise to an array: a slice, a
    /// tuple, `()` won't do.
    ///
    /// # Errors
    /// [`CallError::Remote`] with what the other side says, [`CallError::Closed`] if the connection is or gets lost.
    pub async fn call(&self, method: &str, args: &impl Serialize) -> Result<Body, CallError> {
        let body = request(method, args, Some(Kind::Async))?;
        let (key, answer) = self.shared.ask()?;
        let _asked = Asked { shared: Arc::clone(&self.shared), key, _waiting: self.shared.room.wait_for_answer() };
        if !self.shared.outbox.send([Packet { request: key, stream: false, end: false, body }]).await {
            return Err(CallError::Closed(self.shared.why()));
        }
        answer.await.unwrap_or_else(|_| Err(CallError::Closed(self.shared.why())))
    }

    /// Calls a source.
    ///
    /// # Errors
    /// [`CallError::Closed`] if the connection is lost. What the other side says comes with the first item.
    pub async fn source(&self, method: &str, args: &impl Serialize) -> Result<Source, CallError> {
        let stream = self.open(method, args, Kind::Source).await?;
        Ok(Source { stream, shared_with_sink: false })
    }

    /// Calls a sink.
    ///
    /// # Errors
    /// [`CallError::Closed`] if the connection is lost. What the other side says comes from [`Sink::end`].
    pub async fn sink(&self, method: &str, args: &impl Serialize) -> Result<Sink, CallError> {
        let stream = self.open(method, args, Kind::Sink).await?;
        // Only its end is awaited.
        stream.pipe.abandon();
        Ok(Sink { stream, shared_with_source: false })
    }

    /// Calls a duplex.
    ///
    /// # Errors
    /// [`CallError::Closed`] if the connection is lost. What the other side says comes with the first item.
    pub async fn duplex(&self, method: &str, args: &impl Serialize) -> Result<(Sink, Source), CallError> {
        let stream = self.open(method, args, Kind::Duplex).await?;
        let sink = Sink { stream: Arc::clone(&stream), shared_with_source: true };
        Ok((sink, Source { stream, shared_with_sink: true }))
    }

    async fn open(&self, method: &str, args: &impl Serialize, kind: Kind) -> Result<Arc<Stream>, CallError> {
        let body = request(method, args, Some(kind))?;
        let stream = self.shared.open()?;
        let packet = Packet { request: stream.key, stream: true, end: false, body };
        let opening = Opening::new(stream);
        let sent = self.shared.outbox.send([packet]).await.then(|| opening.sent()).flatten();
        sent.ok_or_else(|| CallError::Closed(self.shared.why()))
    }

    /// Waits until the connection is closed; says why it was.
    pub async fn closed(&self) -> String {
        let mut ended = self.shared.ended();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Waits until the connection is closed, the goodbye has gone out (or its time is up), and both byte streams are let
    /// go.
    pub async fn gone(&self) {
        // An error means the same.
        let _ = self.shared.gone().wait_for(|gone| *gone).await;
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Says goodbye and closes the connection, `why` being what open calls fail with. What is under way goes out first;
    /// a peer that doesn't take it, or doesn't hang up in its turn, is cut off after five seconds ([`Peer::gone`]).
    pub fn close(&self, why: &str) {
        self.shared.close(why);
    }

    /// As [`Peer::close`], and the other side is told why: its calls that are open, and ours, end with `why` as error.
    pub fn dismiss(&self, why: &str) {
        self.shared.dismiss(why);
    }

    /// How much went over this connection.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }
}
