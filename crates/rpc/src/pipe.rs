//! A bounded queue of one stream's items, from the connection's reader to whoever reads the stream.
//!
//! Filled by the reader, which waits when it is full: that is the back-pressure down to the socket. All streams of a
//! connection share that reader, so one that is not read holds up the others, as it does in the reference; a consumer that
//! goes away opens the queue, and what still comes is dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::codec::Body;
use crate::error::CallError;

#[derive(Default)]
struct State {
    items: VecDeque<Body>,
    bytes: usize,
    end: Option<Result<(), CallError>>,
    abandoned: bool,
}

/// Both ends of the queue.
pub(crate) struct Pipe {
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
    max_items: usize,
    max_bytes: usize,
}

impl Pipe {
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Arc<Pipe> {
        Arc::new(Pipe {
            state: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            max_items: max_items.max(1),
            max_bytes,
        })
    }

    /// Takes in all of `items`, as room allows. One item always fits in an empty queue.
    pub(crate) async fn push(&self, items: &mut Vec<Body>) {
        let mut items = items.drain(..).peekable();
        while items.peek().is_some() {
            let drained = self.drained.notified();
            {
                let mut state = self.state.lock();
                if state.abandoned || state.end.is_some() {
                    return;
                }
                while let Some(item) = items.peek() {
                    let full = state.items.len() >= self.max_items || state.bytes + item.len() > self.max_bytes;
                    if full && !state.items.is_empty() {
                        break;
                    }
                    state.bytes += item.len();
                    state.items.extend(items.next());
                }
            }
            self.filled.notify_one();
            if items.peek().is_some() {
                drained.await;
            }
        }
    }

    /// No more items come. The first end counts.
    pub(crate) fn end(&self, end: Result<(), CallError>) {
        self.state.lock().end.get_or_insert(end);
        self.filled.notify_one();
        self.drained.notify_one();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Nobody reads any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.abandoned = true;
        state.items = VecDeque::new();
        state.bytes = 0;
        drop(state);
        self.drained.notify_one();
    }

    /// The next item; `None` at the end; the error once if it ended with one.
    pub(crate) async fn recv(&self) -> Option<Result<Body, CallError>> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state.lock();
                if let Some(item) = state.items.pop_front() {
                    state.bytes -= item.len();
                    drop(state);
                    self.drained.notify_one();
                    return Some(Ok(item));
                }
                if let Some(end) = state.end.as_mut() {
                    return std::mem::replace(end, Ok(())).err().map(Err);
                }
            }
            filled.await;
        }
    }

    /// Moves all items that are there to `out`, at least one; 0 at the end.
    pub(crate) async fn recv_many(&self, out: &mut Vec<Body>) -> Result<usize, CallError> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state.lock();
                if !state.items.is_empty() {
                    let count = state.items.len();
                    out.extend(state.items.drain(..));
                    state.bytes = 0;
                    drop(state);
                    self.drained.notify_one();
                    return Ok(count);
                }
                if let Some(end) = state.end.as_mut() {
                    return std::mem::replace(end, Ok(())).map(|()| 0);
                }
            }
            filled.await;
        }
    }
}
