//! The reading side of a connection, with the calls that came in.
//!
//! The reader never waits for the writer, but for one thing: refusals that the other side causes and doesn't read. It waits
//! for the consumers of streams, and so does everything behind the item that found no room. To wait for ever is no
//! option when that holds up others: see [`STALL`].

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::codec::{self, Body, Decoded, Packet};
use crate::ends::{Inlet, Outlet};
use crate::error::RpcError;
use crate::input::{Input, WORTH_SHARING};
use crate::meter::{Meter, keep_pace};
use crate::registry::{Handler, Registry, Work};
use crate::session::REST;
use crate::shared::Shared;
use crate::streams::{Event, Key};

/// When the reader has waited so long and nothing moved, the stream that keeps most is given up, unless it is one of ours
/// and nobody waits for anything else: whoever reads it may take all the time they like. The same time is given to a
/// peer for reading what it was refused.
pub(crate) const STALL: Duration = Duration::from_secs(60);

pub(crate) struct Reader<C> {
    shared: Arc<Shared>,
    registry: Arc<Registry<C>>,
    caller: C,
    calls: JoinSet<()>,
    /// The stream whose items are being collected.
    run: Option<Key>,
    items: VecDeque<Body>,
    /// Calls since the meter was asked last.
    called: u64,
    meter: Option<Arc<dyn Meter>>,
}

impl<C: Clone + Send + Sync + 'static> Reader<C> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        registry: Arc<Registry<C>>,
        caller: C,
        meter: Option<Arc<dyn Meter>>,
    ) -> Reader<C> {
        let calls = JoinSet::new();
        Reader { shared, registry, caller, calls, run: None, items: VecDeque::new(), called: 0, meter }
    }

    /// Reads until the connection is done; says why it is.
    pub(crate) async fn run(&mut self, read: &mut (impl AsyncRead + Unpin)) -> String {
        let mut input = Input::new();
        loop {
            input.make_room();
            let is_hoarding = input.is_hoarding();
            let count = tokio::select! {
                count = read.read_buf(&mut input.bytes) => count,
                // Only to let go of it.
                Some(_) = self.calls.join_next() => continue,
                () = sleep(REST), if is_hoarding => {
                    input.rest();
                    continue;
                }
            };
            let count = match count {
                Ok(0) if input.bytes.is_empty() => return "the other side hung up".into(),
                Ok(0) => return "the other side hung up in the middle of a packet".into(),
                Ok(count) => count,
                Err(error) => return format!("can't read: {error}"),
            };
            input.came(count);
            let count = count as u64;
            self.shared.bytes_in.fetch_add(count, Ordering::Relaxed);
            loop {
                match codec::decode(&mut input.bytes, self.shared.limits.max_body) {
                    Ok(Decoded::Packet(packet)) => {
                        self.shared.packets_in.fetch_add(1, Ordering::Relaxed);
                        input.took(packet.body.len());
                        self.packet(packet).await;
                    }
                    Ok(Decoded::Incomplete) => break,
                    Ok(Decoded::Goodbye) => {
                        self.deliver().await;
                        return "the other side said goodbye".into();
                    }
                    Err(error) => return error.to_string(),
                }
            }
            self.deliver().await;
            if let Err(why) = self.keep_pace(count).await {
                self.shared.dismiss(&why);
                return why;
            }
            if timeout(STALL, self.shared.outbox.settle()).await.is_err() {
                return "the other side asks for too much and doesn't read the answers".into();
            }
        }
    }

    /// Goes on reading only as fast as the meter says.
    async fn keep_pace(&mut self, bytes: u64) -> Result<(), String> {
        let called = std::mem::take(&mut self.called);
        let Some(meter) = &self.meter else { return Ok(()) };
        keep_pace(|first| if first { meter.read(bytes, called) } else { meter.read(0, 0) }).await
    }

    /// Hands the collected items to their stream, waiting for room there.
    async fn deliver(&mut self) {
        let Some(key) = self.run.take() else { return };
        if let Some(stream) = self.shared.stream(key) {
            compact(&mut self.items);
            while !stream.pipe.push(&mut self.items) {
                let stuck = timeout(STALL, self.shared.room.changed.notified()).await.is_err();
                if stuck {
                    self.shared.give_up_heaviest("it was not read while others waited for what comes behind it");
                }
            }
        }
        self.items.clear();
    }

    async fn packet(&mut self, packet: Packet) {
        // Items in a row go to their stream together.
        let key = packet.request.checked_neg().unwrap_or(0);
        if self.run.is_some_and(|run| run != key || packet.end) {
            self.deliver().await;
        }
        match self.shared.receive(packet) {
            Event::Item(key, body) => {
                self.run = Some(key);
                self.items.push_back(body);
            }
            Event::Answer(key, body) => self.shared.answered(key, Ok(own(body))),
            Event::Failed(key, body) => self.shared.answered(key, Err(RpcError::from_body(&body).into())),
            Event::End(key, body) => self.shared.they_ended(key, &body),
            Event::Request(key, body) => self.call(key, body, false),
            Event::Open(key, body) => self.call(key, body, true),
            Event::Refused { key, stream } => {
                self.called += 1;
                let error = RpcError::new(format!(
                    "too many requests: no more than {} may be open, of {} bytes in all",
                    self.shared.limits.max_requests, self.shared.limits.max_request_bytes
                ));
                self.shared.outbox.refuse(&Packet { request: key, stream, end: true, body: error.body() });
            }
            Event::Stray => tracing::trace!(key, "a packet that belongs to nothing"),
        }
    }

    fn call(&mut self, key: Key, body: Body, is_stream: bool) {
        self.called += 1;
        let found = catch_unwind(AssertUnwindSafe(|| {
            self.registry
                .look_up(self.caller.clone(), &own(body), is_stream)
                .map(|(method, call)| (Arc::clone(&method.name), method.handler.clone(), call))
        }));
        let (name, handler, call) = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a call refused");
                return self.shared.refuse(key, is_stream, &error);
            }
            Err(_) => {
                tracing::error!("looking up a method panicked");
                return self.shared.refuse(key, is_stream, &RpcError::new("internal error"));
            }
        };
        let shared = Arc::clone(&self.shared);
        match handler {
            Handler::Async(handler) => {
                let work = started(&name, || handler(call));
                self.calls.spawn(async move {
                    let answer = caught(&name, work).await;
                    // Answers wait for room like all data. One goes out even if the outbox has filled up meanwhile.
                    shared.outbox.room().await;
                    shared.answer(key, answer);
                })
            }
            Handler::Source(handler) => {
                let stream = shared.accept(key);
                // Nothing to be read: items are dropped, any end is the caller's wish for no more.
                stream.pipe.abandon();
                self.calls.spawn(async move {
                    let outlet = Outlet(Arc::clone(&stream));
                    let done = tokio::select! {
                        done = caught(&name, async { handler(call, outlet).await }) => done,
                        () = stream.until_closed() => Ok(()),
                    };
                    stream.end(done);
                })
            }
            Handler::Sink(handler) => {
                let stream = shared.accept(key);
                let inlet = Inlet(Arc::clone(&stream));
                let work = started(&name, || handler(call, inlet));
                self.calls.spawn(async move { stream.end(caught(&name, work).await) })
            }
            Handler::Duplex(handler) => {
                let stream = shared.accept(key);
                let (inlet, outlet) = (Inlet(Arc::clone(&stream)), Outlet(Arc::clone(&stream)));
                let work = started(&name, || handler(call, inlet, outlet));
                self.calls.spawn(async move {
                    let done = caught(&name, work).await;
                    stream.pipe.abandon();
                    stream.end(done);
                })
            }
        };
    }
}

/// Calls a handler. That happens as soon as its call is read, and not when its future is first polled: a peer that calls
/// and leaves takes its calls' futures along, but not what the handler itself has begun.
fn started<T: Send + 'static>(name: &str, handler: impl FnOnce() -> Work<T>) -> Work<T> {
    catch_unwind(AssertUnwindSafe(handler)).unwrap_or_else(|_| {
        tracing::error!(method = name, "a handler panicked");
        let error = RpcError::new(format!("{name}: internal error"));
        Box::pin(async move { Err(error) })
    })
}

/// Runs a handler; if it panics, that is an error of this call alone.
async fn caught<T>(name: &str, work: impl Future<Output = Result<T, RpcError>>) -> Result<T, RpcError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(method = name, "a handler panicked");
            Err(RpcError::new(format!("{name}: internal error")))
        }
    }
}

fn map(body: Body, change: impl FnOnce(Bytes) -> Bytes) -> Body {
    match body {
        Body::Json(bytes) => Body::Json(change(bytes)),
        Body::String(bytes) => Body::String(change(bytes)),
        Body::Binary(bytes) => Body::Binary(change(bytes)),
    }
}

/// Copies what is small out of the piece that was read.
fn own(body: Body) -> Body {
    if body.len() >= WORTH_SHARING { body } else { map(body, |bytes| Bytes::copy_from_slice(&bytes)) }
}

/// Copies items that are small all together out of the piece that was read.
fn compact(items: &mut VecDeque<Body>) {
    let total: usize = items.iter().map(Body::len).sum();
    if total >= WORTH_SHARING {
        return;
    }
    let mut copy = BytesMut::with_capacity(total);
    items.iter().for_each(|item| copy.extend_from_slice(item.bytes()));
    let mut copy = copy.freeze();
    for item in items {
        let bytes = copy.split_to(item.len());
        let kind = std::mem::replace(item, Body::Binary(Bytes::new()));
        *item = map(kind, |_| bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_items_leave_the_memory_in_which_they_came() {
        let piece = Bytes::from(vec![7; 1 << 16]);
        let mut items: VecDeque<Body> =
            [Body::Json(piece.slice(0..3)), Body::Binary(piece.slice(9..9)), Body::String(piece.slice(10..20))].into();
        let before = items.clone();
        compact(&mut items);
        assert_eq!(items, before);
        assert!(
            piece.is_unique() || {
                drop(before);
                piece.is_unique()
            }
        );
    }
}
