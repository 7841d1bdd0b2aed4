//! What all handles and tasks of one connection share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::codec::{Body, Packet};
use crate::ends::Stream;
use crate::error::{CallError, RpcError};
use crate::outbox::Outbox;
use crate::peer::Counters;
use crate::pipe::Pipe;
use crate::room::Room;
use crate::session::Limits;
use crate::streams::{Event, Key, Streams};

/// Waits for an answer, or for items and an end.
enum Waiting {
    Answer(oneshot::Sender<Result<Body, CallError>>),
    Stream(Arc<Stream>),
}

pub(crate) struct Shared {
    pub(crate) outbox: Outbox,
    pub(crate) room: Arc<Room>,
    pub(crate) limits: Limits,
    table: Mutex<Table>,
    /// Why it is closed.
    ended: watch::Sender<Option<String>>,
    /// Whether the sockets are let go.
    gone: watch::Sender<bool>,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) packets_in: AtomicU64,
}

struct Table {
    streams: Streams,
    waiting: HashMap<Key, Waiting>,
    closed: bool,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Shared {
        let room = Arc::new(Room::default());
        Shared {
            outbox: Outbox::new(Arc::clone(&room)),
            room,
            limits,
            table: Mutex::new(Table {
                streams: Streams::new(limits.max_requests, limits.max_request_bytes),
                waiting: HashMap::new(),
                closed: false,
            }),
            ended: watch::Sender::new(None),
            gone: watch::Sender::new(false),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            packets_in: AtomicU64::new(0),
        }
    }

    /// Why the connection is closed, or is about to be.
    pub(crate) fn why(&self) -> String {
        self.ended.borrow().clone().unwrap_or_else(|| "it is being closed".into())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ended.borrow().is_some()
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    pub(crate) fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }

    /// The sockets are let go.
    pub(crate) fn go(&self) {
        self.outbox.close();
        self.gone.send_replace(true);
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            packets_in: self.packets_in.load(Ordering::Relaxed),
            packets_out: self.outbox.packets(),
            open: self.table.lock().streams.len(),
        }
    }

    /// Opens a lone request of ours.
    pub(crate) fn ask(&self) -> Result<(Key, oneshot::Receiver<Result<Body, CallError>>), CallError> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(CallError::Closed(self.why()));
        }
        let key = table.streams.start(false);
        let (sender, receiver) = oneshot::channel();
        table.waiting.insert(key, Waiting::Answer(sender));
        Ok((key, receiver))
    }

    /// Nobody waits for this answer any more, or this stream was never sent.
    pub(crate) fn forget(&self, key: Key) {
        let mut table = self.table.lock();
        table.streams.forget(key);
        table.waiting.remove(&key);
    }

    /// Nobody waits for the rest of this stream, which we have ended. It stays open until they end it.
    pub(crate) fn let_go(&self, key: Key) {
        self.table.lock().waiting.remove(&key);
    }

    /// Opens a stream of ours.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Arc<Stream>, CallError> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(CallError::Closed(self.why()));
        }
        let key = table.streams.start(true);
        Ok(self.add_stream(&mut table, key))
    }

    /// Adds a stream that they opened.
    pub(crate) fn accept(self: &Arc<Self>, key: Key) -> Arc<Stream> {
        self.add_stream(&mut self.table.lock(), key)
    }

    fn add_stream(self: &Arc<Self>, table: &mut Table, key: Key) -> Arc<Stream> {
        let pipe = Pipe::new(Arc::clone(&self.room), self.limits);
        let stream = Stream::new(key, Arc::clone(self), pipe);
        table.waiting.insert(key, Waiting::Stream(Arc::clone(&stream)));
        stream
    }

    /// What an incoming packet means.
    pub(crate) fn receive(&self, packet: Packet) -> Event {
        self.table.lock().streams.receive(packet)
    }

    /// The stream with this key, if anybody waits for what it brings.
    pub(crate) fn stream(&self, key: Key) -> Option<Arc<Stream>> {
        match self.table.lock().waiting.get(&key) {
            Some(Waiting::Stream(stream)) => Some(Arc::clone(stream)),
            _ => None,
        }
    }

    /// Hands over an answer. Whoever asked may have stopped waiting.
    pub(crate) fn answered(&self, key: Key, answer: Result<Body, CallError>) {
        if let Some(Waiting::Answer(sender)) = self.table.lock().waiting.remove(&key) {
            let _ = sender.send(answer);
        }
    }

    /// They ended a stream.
    pub(crate) fn they_ended(&self, key: Key, body: &Body) {
        let Some(stream) = self.stream(key) else { return };
        {
            let mut table = self.table.lock();
            if !table.streams.is_open(key) {
                table.waiting.remove(&key);
            }
        }
        // The reference ends with `true`; nothing else that is falsy to it is an error.
        let good = matches!(body, Body::Json(json) if [&b"true"[..], b"null", b"false"].contains(&&json[..]));
        stream.pipe.end(if good { Ok(()) } else { Err(RpcError::from_body(body).into()) });
        // A caller that has nothing more to say may still listen. A method that has ended doesn't.
        if !(good && key < 0 && stream.pipe.is_read()) {
            stream.close();
        }
    }

    /// Sends our end of a stream, if it is still due.
    pub(crate) fn end(&self, key: Key, body: Body) {
        self.finish(key, Packet { request: key, stream: true, end: true, body }, false);
    }

    /// Sends the answer to a lone request of theirs, if it is still due.
    pub(crate) fn answer(&self, key: Key, answer: Result<Body, RpcError>) {
        let (body, end) = match answer {
            Ok(body) => (body, false),
            Err(error) => (error.body(), true),
        };
        self.finish(key, Packet { request: key, stream: false, end, body }, false);
    }

    /// For the reader: refuses a request of theirs.
    pub(crate) fn refuse(&self, key: Key, stream: bool, error: &RpcError) {
        self.finish(key, Packet { request: key, stream, end: true, body: error.body() }, true);
    }

    /// Under the table's lock, so that the packet goes out once.
    fn finish(&self, key: Key, packet: Packet, refusal: bool) {
        let mut table = self.table.lock();
        if !table.streams.end(key) {
            return;
        }
        if !table.streams.is_open(key) {
            table.waiting.remove(&key);
        }
        match refusal {
            true => self.outbox.refuse(&packet),
            false => self.outbox.push(&packet),
        }
    }

    /// Gives up the stream that keeps most: its consumer and the other side get an error. One of ours only if somebody
    /// waits for something else.
    pub(crate) fn give_up_heaviest(&self, why: &str) {
        let heaviest = {
            let table = self.table.lock();
            let streams = table.waiting.values().filter_map(|open| match open {
                Waiting::Stream(stream) => Some(stream),
                Waiting::Answer(_) => None,
            });
            streams.max_by_key(|stream| stream.pipe.cost()).map(Arc::clone)
        };
        let wanted_gone = |stream: &Arc<Stream>| stream.key < 0 || self.room.somebody_waits();
        let Some(stream) = heaviest.filter(wanted_gone) else { return };
        tracing::debug!(key = stream.key, why, "a stream given up");
        stream.pipe.give_up(CallError::Ended(why.to_owned()));
        stream.end(Err(RpcError::new(why)));
    }

    /// Closes the connection, and tells the other side why: everything that it waits for ends with that error.
    pub(crate) fn dismiss(&self, why: &str) {
        let unended = {
            let table = self.table.lock();
            for open in table.waiting.values() {
                if let Waiting::Stream(stream) = open {
                    // No items behind the end.
                    stream.close();
                }
            }
            if table.closed { Vec::new() } else { table.streams.unended() }
        };
        let error = RpcError::new(why);
        for (key, stream) in unended {
            self.finish(key, Packet { request: key, stream, end: true, body: error.body() }, false);
        }
        self.close(why);
    }

    /// Closes the connection: everything open fails, and its tasks end. The first reason counts.
    pub(crate) fn close(&self, why: &str) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| why.to_owned());
            first
        });
        let waiting = {
            let mut table = self.table.lock();
            table.closed = true;
            std::mem::take(&mut table.waiting)
        };
        for open in waiting.into_values() {
            match open {
                Waiting::Answer(sender) => {
                    let _ = sender.send(Err(CallError::Closed(self.why())));
                }
                Waiting::Stream(stream) => {
                    stream.pipe.end(Err(CallError::Closed(self.why())));
                    stream.close();
                }
            }
        }
    }
}

/// Unsent: the stream is forgotten when this is dropped.
pub(crate) struct Opening(Option<Arc<Stream>>);

impl Opening {
    pub(crate) fn new(stream: Arc<Stream>) -> Opening {
        Opening(Some(stream))
    }

    /// It was sent.
    pub(crate) fn sent(mut self) -> Option<Arc<Stream>> {
        self.0.take()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            stream.shared.forget(stream.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ends::good_end;

    #[test]
    fn the_end_of_a_stream_goes_out_once() {
        let shared = Arc::new(Shared::new(Limits::REMOTE));
        let stream = shared.open().unwrap();
        stream.end(Ok(()));
        stream.end(Err(RpcError::new("late")));
        assert_eq!(shared.outbox.packets(), 1);
        shared.they_ended(stream.key, &good_end());
    }
}
