//! The ends of streams: [`Inlet`] and [`Outlet`] for handlers, [`Source`] and [`Sink`] for callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::codec::{Body, Packet};
use crate::error::{CallError, RpcError};
use crate::pipe::Pipe;
use crate::shared::Shared;
use crate::streams::Key;

/// What ends a stream well.
pub(crate) fn good_end() -> Body {
    Body::Json(Bytes::from_static(b"true"))
}

/// One open stream: its incoming items, and whether the other side still takes ours.
pub(crate) struct Stream {
    pub(crate) key: Key,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pipe: Pipe,
    closed: AtomicBool,
    closing: Notify,
}

impl Stream {
    pub(crate) fn new(key: Key, shared: Arc<Shared>, pipe: Pipe) -> Arc<Stream> {
        Arc::new(Stream { key, shared, pipe, closed: AtomicBool::new(false), closing: Notify::new() })
    }

    /// We send no more items.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }

    pub(crate) async fn until_closed(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.closed.load(Ordering::Acquire) {
            closing.await;
        }
    }

    fn closed_error(&self) -> CallError {
        match self.shared.is_closed() {
            true => CallError::Closed(self.shared.why()),
            false => CallError::Ended("the other side wants no more".into()),
        }
    }

    async fn send(&self, bodies: impl IntoIterator<Item = Body>) -> Result<(), CallError> {
        // Asked for each item under the outbox's lock: none can follow our end, which is sent after `closed` is set.
        let open = |_: &Body| !self.closed.load(Ordering::Acquire);
        let packets = bodies.into_iter().take_while(open).map(|body| Packet {
            request: self.key,
            stream: true,
            end: false,
            body,
        });
        tokio::select! {
            biased;
            sent = self.shared.outbox.send(packets) => {
                if sent && !self.closed.load(Ordering::Acquire) { Ok(()) } else { Err(self.closed_error()) }
            }
            () = self.until_closed() => Err(self.closed_error()),
        }
    }

    /// Sends our end, unless it was sent.
    pub(crate) fn end(&self, end: Result<(), RpcError>) {
        self.close();
        let body = match end {
            Ok(()) => good_end(),
            Err(error) => error.body(),
        };
        self.shared.end(self.key, body);
    }
}

/// Where a handler reads what the caller streams.
///
/// Items that aren't read hold up the whole connection once the queue is full ([`Limits`](crate::Limits)), so a duplex
/// handler must go on reading while it waits for [`Outlet::send`]: if both sides only read after they have written, neither
/// goes on.
pub struct Inlet(pub(crate) Arc<Stream>);

impl Inlet {
    /// The next item; `None` at the end, an error if the caller ended with one or is gone. Can be cancelled: no item gets
    /// lost.
    pub async fn recv(&mut self) -> Option<Result<Body, CallError>> {
        self.0.pipe.recv().await
    }

    /// Moves what is there to `out`, waiting for one item at least; 0 at the end. Can be cancelled: no item gets lost.
    ///
    /// # Errors
    /// If the caller ended with an error, or is gone.
    pub async fn recv_many(&mut self, out: &mut Vec<Body>) -> Result<usize, CallError> {
        self.0.pipe.recv_many(out).await
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        if self.0.pipe.abandon() {
            // Nobody else would notice that the caller is done.
            self.0.close();
        }
    }
}

/// Where a handler writes what streams to the caller. Clones write to the same stream; it ends when the handler returns.
#[derive(Clone)]
pub struct Outlet(pub(crate) Arc<Stream>);

/// A stream's turn, from [`Outlet::turn`].
#[must_use]
pub struct Turn(#[expect(dead_code, reason = "it is given back when dropped")] OwnedSemaphorePermit);

impl Outlet {
    /// Sends an item, waiting while too much is under way.
    ///
    /// # Errors
    /// [`CallError::Ended`] if the caller wants no more, [`CallError::Closed`] if it is gone.
    pub async fn send(&mut self, body: Body) -> Result<(), CallError> {
        self.0.send([body]).await
    }

    /// Sends items in one go.
    ///
    /// # Errors
    /// As [`Outlet::send`]; some may have been sent.
    pub async fn send_many(&mut self, bodies: Vec<Body>) -> Result<(), CallError> {
        self.0.send(bodies).await
    }

    /// Waits until it is this stream's turn to prepare something large to be sent, such as a piece of a log; two streams of a
    /// connection can have theirs at a time, until they drop it. However many streams a caller opens and doesn't read, no
    /// more than two pieces wait in memory.
    ///
    /// # Errors
    /// As [`Outlet::send`].
    pub async fn turn(&self) -> Result<Turn, CallError> {
        tokio::select! {
            biased;
            turn = Arc::clone(&self.0.shared.outbox.turns).acquire_owned() => turn.map(Turn).map_err(|_| self.0.closed_error()),
            () = self.closed() => Err(self.0.closed_error()),
        }
    }

    /// Waits until the caller wants no more or is gone. A caller that ends its own side of a duplex still wants ours, as
    /// long as the [`Inlet`] is there to tell of that end.
    pub async fn closed(&self) {
        self.0.until_closed().await;
    }
}

/// A stream that we asked for. Dropping it tells the other side to stop; of a duplex, it closes the [`Sink`] too.
///
/// Items that aren't read hold up the whole connection once the queue is full ([`Limits`](crate::Limits)): read on, or
/// drop it.
pub struct Source {
    pub(crate) stream: Arc<Stream>,
    /// Of a duplex: the [`Sink`] ends it.
    pub(crate) shared_with_sink: bool,
}

impl Source {
    /// The next item; `None` at the end, an error if the stream ended with one. Can be cancelled: no item gets lost.
    pub async fn recv(&mut self) -> Option<Result<Body, CallError>> {
        let item = self.stream.pipe.recv().await;
        if !matches!(item, Some(Ok(_))) && !self.shared_with_sink {
            self.stream.end(Ok(()));
        }
        item
    }

    /// Moves what is there to `out`, waiting for one item at least; 0 at the end. Can be cancelled: no item gets lost.
    ///
    /// # Errors
    /// If the stream ended with an error, or the connection is gone.
    pub async fn recv_many(&mut self, out: &mut Vec<Body>) -> Result<usize, CallError> {
        let count = self.stream.pipe.recv_many(out).await;
        if !matches!(count, Ok(1..)) && !self.shared_with_sink {
            self.stream.end(Ok(()));
        }
        count
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stream.pipe.abandon();
        self.stream.end(Ok(()));
        self.stream.shared.let_go(self.stream.key);
    }
}

/// A stream that we send. Dropping it ends it.
pub struct Sink {
    pub(crate) stream: Arc<Stream>,
    /// Of a duplex: the [`Source`] lives on.
    pub(crate) shared_with_source: bool,
}

impl Sink {
    /// Sends an item, waiting while too much is under way.
    ///
    /// # Errors
    /// [`CallError`] if the other side takes no more; [`Sink::end`] says why.
    pub async fn send(&mut self, body: Body) -> Result<(), CallError> {
        self.stream.send([body]).await
    }

    /// Sends items in one go.
    ///
    /// # Errors
    /// As [`Sink::send`]; some may have been sent.
    pub async fn send_many(&mut self, bodies: Vec<Body>) -> Result<(), CallError> {
        self.stream.send(bodies).await
    }

    /// Waits until the other side takes no more or is gone.
    pub async fn closed(&self) {
        self.stream.until_closed().await;
    }

    /// Ends the stream, and waits until the other side has ended it too. Not for the sink of a duplex, whose
    /// [`Source`] still brings items: drop that one.
    ///
    /// # Errors
    /// The error with which the other side ended it.
    pub async fn end(self) -> Result<(), CallError> {
        self.stream.end(Ok(()));
        let mut rest = Vec::new();
        while self.stream.pipe.recv_many(&mut rest).await? > 0 {
            rest.clear();
        }
        Ok(())
    }

    /// Ends the stream with an error.
    pub fn fail(self, error: RpcError) {
        self.stream.end(Err(error));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stream.end(Ok(()));
        if !self.shared_with_source {
            self.stream.shared.let_go(self.stream.key);
        }
    }
}
