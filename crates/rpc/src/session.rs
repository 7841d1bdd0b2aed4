//! One connection: a task that reads, a task that writes, and a task for each call under way.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::codec::{self, Body, Decoded, Packet};
use crate::ends::{Inlet, Outlet, Stream};
use crate::error::{CallError, RpcError};
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::pipe::Pipe;
use crate::registry::{Handler, Registry};
use crate::streams::{Event, Key, Streams};

/// Bounds on what the other side can make us keep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest packet body that is taken, in bytes.
    pub max_body: usize,
    /// Most calls of theirs that may be open at a time.
    pub max_requests: usize,
    /// Most items that wait in one stream.
    pub max_items: usize,
    /// Most bytes that wait in one stream; one item may be longer.
    pub max_stream_bytes: usize,
}

impl Limits {
    /// For a peer across the network. Messages are below 128 KiB, blobs come in pieces of 64 KiB; the largest single
    /// thing is an EBT clock, some 60 bytes a feed.
    pub const REMOTE: Limits =
        Limits { max_body: 4 << 20, max_requests: 1024, max_items: 2048, max_stream_bytes: 1 << 20 };

    /// For a client of our own: its questions and our answers may be large (`friends.get`).
    pub const LOCAL: Limits =
        Limits { max_body: 64 << 20, max_requests: 16_384, max_items: 4096, max_stream_bytes: 4 << 20 };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::LOCAL
    }
}

/// Read from the socket in pieces of this size.
const READ: usize = 64 * 1024;

/// Time for our last bytes to go out before a connection is cut.
const FLUSH: Duration = Duration::from_secs(5);

/// Waits for an answer or an end of ours.
enum Waiting {
    Answer(oneshot::Sender<Result<Body, CallError>>),
    Stream(Arc<Stream>),
}

/// What all handles of one connection share.
pub(crate) struct Shared {
    pub(crate) outbox: Outbox,
    table: Mutex<Table>,
    limits: Limits,
    ended: watch::Sender<Option<String>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    packets_in: AtomicU64,
}

struct Table {
    streams: Streams,
    waiting: HashMap<Key, Waiting>,
    closed: bool,
}

impl Shared {
    /// Why the connection is closed, or is about to be.
    pub(crate) fn why(&self) -> String {
        self.ended.borrow().clone().unwrap_or_else(|| "it is being closed".into())
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    /// Bytes in, bytes out, packets in, packets out.
    pub(crate) fn counters(&self) -> [u64; 4] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [load(&self.bytes_in), load(&self.bytes_out), load(&self.packets_in), self.outbox.packets()]
    }

    pub(crate) fn open_requests(&self) -> usize {
        self.table.lock().streams.len()
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

    /// Nobody waits for this answer any more.
    pub(crate) fn abandon(&self, key: Key) {
        let mut table = self.table.lock();
        table.streams.abandon(key);
        table.waiting.remove(&key);
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

    fn add_stream(self: &Arc<Self>, table: &mut Table, key: Key) -> Arc<Stream> {
        let pipe = Pipe::new(self.limits.max_items, self.limits.max_stream_bytes);
        let stream = Stream::new(key, Arc::clone(self), pipe);
        table.waiting.insert(key, Waiting::Stream(Arc::clone(&stream)));
        stream
    }

    /// Sends the end of a stream, or the answer to a lone request of theirs, if that is still due.
    pub(crate) fn end(&self, key: Key, stream: bool, body: Body, end: bool) {
        // Under the table's lock, so that nothing of a request follows its end.
        let mut table = self.table.lock();
        if table.streams.end(key) {
            if !stream
                || table
                    .waiting
                    .get(&key)
                    .is_some_and(|open| matches!(open, Waiting::Stream(open) if open.pipe.is_ended()))
            {
                table.waiting.remove(&key);
            }
            self.outbox.push(&Packet { request: key, stream, end, body });
        }
    }

    /// Ends the connection from our side.
    pub(crate) fn hang_up(&self, why: &str) {
        self.close(why);
    }

    fn close(&self, why: &str) {
        let waiting = {
            let mut table = self.table.lock();
            table.closed = true;
            std::mem::take(&mut table.waiting)
        };
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| why.to_owned());
            first
        });
        for open in waiting.into_values() {
            match open {
                Waiting::Answer(sender) => {
                    let _ = sender.send(Err(CallError::Closed(why.to_owned())));
                }
                Waiting::Stream(stream) => {
                    stream.pipe.end(Err(CallError::Closed(why.to_owned())));
                    stream.close();
                }
            }
        }
    }
}

/// Starts connections.
pub struct Session;

impl Session {
    /// Speaks mux-rpc over `read` and `write` until either side is done: offers the methods of `registry` to the other
    /// side, for whom `caller` speaks, and returns the handle with which to call the other side's.
    ///
    /// The connection lives on when the handle is dropped; [`Peer::close`] ends it. Needs a tokio runtime.
    pub fn spawn<C: Clone + Send + Sync + 'static>(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        registry: Arc<Registry<C>>,
        caller: C,
        limits: Limits,
    ) -> Peer {
        let shared = Arc::new(Shared {
            outbox: Outbox::new(),
            table: Mutex::new(Table {
                streams: Streams::new(limits.max_requests),
                waiting: HashMap::new(),
                closed: false,
            }),
            limits,
            ended: watch::Sender::new(None),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            packets_in: AtomicU64::new(0),
        });
        let writer = tokio::spawn(write_all(Arc::clone(&shared), write));
        let reader = Reader {
            shared: Arc::clone(&shared),
            registry,
            caller,
            calls: JoinSet::new(),
            run: None,
            items: Vec::new(),
        };
        let task = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut reader = reader;
            let mut ended = task.ended();
            let why = tokio::select! {
                why = reader.run(read) => why,
                // Closed from our side, or the writer failed.
                why = ended.wait_for(Option::is_some) => match why {
                    Ok(why) => why.clone().unwrap_or_default(),
                    Err(_) => String::new(),
                },
            };
            task.close(&why);
            drop(reader);
            task.outbox.finish();
            let abort = writer.abort_handle();
            if tokio::time::timeout(FLUSH, writer).await.is_err() {
                abort.abort();
            }
            task.outbox.close();
        });
        Peer::new(shared)
    }
}

async fn write_all(shared: Arc<Shared>, mut write: impl AsyncWrite + Unpin) {
    let mut buffer = BytesMut::new();
    while let Some(full) = shared.outbox.take(buffer).await {
        let written = async {
            write.write_all(&full).await?;
            write.flush().await
        };
        if let Err(error) = written.await {
            shared.close(&format!("can't write: {error}"));
            break;
        }
        shared.bytes_out.fetch_add(full.len() as u64, Ordering::Relaxed);
        buffer = full;
        buffer.clear();
        // A burst leaves a large buffer behind; small talk needs none.
        if buffer.capacity() > 2 * crate::outbox::HIGH_WATER {
            buffer = BytesMut::new();
        }
    }
    // The peer may be gone already.
    let _ = write.shutdown().await;
    shared.outbox.close();
}

/// The reading side, with the calls that came in.
struct Reader<C> {
    shared: Arc<Shared>,
    registry: Arc<Registry<C>>,
    caller: C,
    calls: JoinSet<()>,
    /// The stream whose items are being collected.
    run: Option<Key>,
    items: Vec<Body>,
}

impl<C: Clone + Send + Sync + 'static> Reader<C> {
    /// Reads until the connection is done; says why it is.
    async fn run(&mut self, mut read: impl AsyncRead + Unpin) -> String {
        let mut input = BytesMut::with_capacity(READ);
        loop {
            input.reserve(READ / 2);
            match read.read_buf(&mut input).await {
                Ok(0) if input.is_empty() => return "the other side hung up".into(),
                Ok(0) => return "the other side hung up in the middle of a packet".into(),
                Ok(count) => {
                    self.shared.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) => return format!("can't read: {error}"),
            }
            loop {
                match codec::decode(&mut input, self.shared.limits.max_body) {
                    Ok(Decoded::Packet(packet)) => {
                        self.shared.packets_in.fetch_add(1, Ordering::Relaxed);
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
            self.shared.outbox.settle().await;
            while self.calls.try_join_next().is_some() {}
        }
    }

    /// Hands the collected items to their stream, waiting for room there.
    async fn deliver(&mut self) {
        let Some(key) = self.run.take() else { return };
        let stream = match self.shared.table.lock().waiting.get(&key) {
            Some(Waiting::Stream(stream)) => Some(Arc::clone(stream)),
            _ => None,
        };
        if let Some(stream) = stream {
            stream.pipe.push(&mut self.items).await;
        }
        self.items.clear();
    }

    async fn packet(&mut self, packet: Packet) {
        let key = packet.request.checked_neg().unwrap_or(0);
        // Items in a row go to their stream together.
        if self.run.is_some_and(|run| run != key || packet.end) {
            self.deliver().await;
        }
        let event = self.shared.table.lock().streams.receive(packet);
        match event {
            Event::Item(key, body) => {
                self.run = Some(key);
                self.items.push(body);
            }
            Event::Answer(key, body) => self.answer(key, Ok(body)),
            Event::Failed(key, body) => self.answer(key, Err(RpcError::from_body(&body).into())),
            Event::End(key, body) => self.end(key, &body),
            Event::Request(key, body) => self.call(key, &body, false),
            Event::Open(key, body) => self.call(key, &body, true),
            Event::Refused { key, stream } => {
                let error = RpcError::new(format!("too many requests: {} are open", self.shared.limits.max_requests));
                self.shared.outbox.push(&Packet { request: key, stream, end: true, body: error.body() });
            }
            Event::Stray => tracing::trace!(key, "a packet that belongs to nothing"),
        }
    }

    fn answer(&self, key: Key, answer: Result<Body, CallError>) {
        if let Some(Waiting::Answer(sender)) = self.shared.table.lock().waiting.remove(&key) {
            // The caller may have stopped waiting.
            let _ = sender.send(answer);
        }
    }

    fn end(&self, key: Key, body: &Body) {
        let stream = {
            let mut table = self.shared.table.lock();
            match table.waiting.remove(&key) {
                Some(Waiting::Stream(stream)) => stream,
                _ => return,
            }
        };
        let good = matches!(body, Body::Json(bytes) if bytes[..] == b"true"[..]);
        stream.pipe.end(if good { Ok(()) } else { Err(RpcError::from_body(body).into()) });
        stream.close();
    }

    fn call(&mut self, key: Key, body: &Body, is_stream: bool) {
        let registry = Arc::clone(&self.registry);
        let (method, call) = match registry.look_up(self.caller.clone(), body, is_stream) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "a call refused");
                return self.shared.end(key, is_stream, error.body(), true);
            }
        };
        let shared = Arc::clone(&self.shared);
        let name = Arc::clone(&method.name);
        if !is_stream {
            let Handler::Async(handler) = &method.handler else { return };
            let work = handler(call);
            self.calls.spawn(async move {
                match caught(&name, work).await {
                    Ok(body) => {
                        // Answers wait for room like all data; then they are due exactly once.
                        shared.outbox.send(std::iter::empty()).await;
                        shared.end(key, false, body, false);
                    }
                    Err(error) => shared.end(key, false, error.body(), true),
                }
            });
            return;
        }
        let stream = {
            let mut table = shared.table.lock();
            shared.add_stream(&mut table, key)
        };
        let open = Arc::clone(&stream);
        let (work, is_source) = match &method.handler {
            Handler::Source(handler) => (handler(call, Outlet(stream)), true),
            Handler::Sink(handler) => (handler(call, Inlet(stream)), false),
            Handler::Duplex(handler) => (handler(call, Inlet(Arc::clone(&stream)), Outlet(stream)), false),
            Handler::Async(_) => return,
        };
        self.calls.spawn(async move {
            let done = if is_source {
                let closed = Outlet(Arc::clone(&open));
                tokio::select! {
                    done = caught(&name, work) => done,
                    () = closed.closed() => Ok(()),
                }
            } else {
                caught(&name, work).await
            };
            open.pipe.abandon();
            open.end(done);
        });
    }
}

/// Runs a handler; if it panics, that is an error of this call alone.
async fn caught<T>(name: &str, work: crate::registry::Work<T>) -> Result<T, RpcError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(method = name, "a handler panicked");
            Err(RpcError::new(format!("{name}: internal error")))
        }
    }
}
