//! A bounded queue of one stream's items, from the connection's reader to whoever reads the stream.
//!
//! The reader waits when it is full: that is the back-pressure down to the socket. All streams of a connection share that
//! reader, since mux-rpc can't hold back a single stream: one that is not read holds up the others, ends and answers
//! behind its items included. (The reference has no such wait and queues without bound.) A consumer that goes away opens
//! its queue: what still comes is dropped, and the end still gets through.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::codec::Body;
use crate::error::CallError;
use crate::room::{ITEM_COST, Room};
use crate::session::Limits;

#[derive(Default)]
struct State {
    items: VecDeque<Body>,
    /// Of `items`, with [`ITEM_COST`] for each.
    cost: usize,
    end: Option<Result<(), CallError>>,
    /// Whether the consumer was told of the end.
    told: bool,
    abandoned: bool,
}

/// Both ends of the queue.
pub(crate) struct Pipe {
    state: Mutex<State>,
    filled: Notify,
    room: Arc<Room>,
    limits: Limits,
}

impl Pipe {
    pub(crate) fn new(room: Arc<Room>, limits: Limits) -> Pipe {
        Pipe { state: Mutex::default(), filled: Notify::new(), room, limits }
    }

    /// Takes from the front of `items` what there is room for; false if some are left. When nothing waits anywhere, one
    /// item is always taken.
    pub(crate) fn push(&self, items: &mut VecDeque<Body>) -> bool {
        let mut state = self.state.lock();
        if state.abandoned || state.end.is_some() {
            items.clear();
            return true;
        }
        let answer_is_due = self.room.answer_is_due();
        let mut total = self.room.queued();
        let before = state.cost;
        while let Some(item) = items.front() {
            let cost = item.len() + ITEM_COST;
            let mine = state.cost + cost <= self.limits.max_stream_bytes && state.items.len() < self.limits.max_items;
            let fits_here = mine || answer_is_due || state.items.is_empty();
            if total != 0 && (!fits_here || total + cost > self.limits.max_queued) {
                break;
            }
            total += cost;
            state.cost += cost;
            state.items.extend(items.pop_front());
        }
        let taken = state.cost - before;
        if taken > 0 {
            self.room.take(taken);
        }
        drop(state);
        if taken > 0 {
            self.filled.notify_one();
        }
        items.is_empty()
    }

    /// No more items come. The first end counts.
    pub(crate) fn end(&self, end: Result<(), CallError>) {
        self.state.lock().end.get_or_insert(end);
        self.filled.notify_one();
    }

    /// What waits here, with [`ITEM_COST`] for each item.
    pub(crate) fn cost(&self) -> usize {
        self.state.lock().cost
    }

    /// Whether anybody reads.
    pub(crate) fn is_read(&self) -> bool {
        !self.state.lock().abandoned
    }

    /// Nobody reads any more. True if there is an end of which the consumer doesn't know.
    pub(crate) fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        state.abandoned = true;
        let unknown_end = state.end.is_some() && !state.told;
        self.empty(&mut state);
        unknown_end
    }

    /// Drops what waits; the consumer gets `error` instead, and nothing more.
    pub(crate) fn give_up(&self, error: CallError) {
        let mut state = self.state.lock();
        state.end = Some(Err(error));
        self.empty(&mut state);
        drop(state);
        self.filled.notify_one();
    }

    fn empty(&self, state: &mut State) {
        state.items = VecDeque::new();
        self.room.free(std::mem::take(&mut state.cost));
    }

    /// The next item; `None` at the end; the error once if it ended with one.
    pub(crate) async fn recv(&self) -> Option<Result<Body, CallError>> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state.lock();
                if let Some(item) = state.items.pop_front() {
                    let cost = item.len() + ITEM_COST;
                    state.cost -= cost;
                    drop(state);
                    self.room.free(cost);
                    return Some(Ok(item));
                }
                if let Some(end) = state.end.as_mut() {
                    let end = std::mem::replace(end, Ok(()));
                    state.told = true;
                    return end.err().map(Err);
                }
            }
            let _waiting = self.room.wait();
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
                    let cost = std::mem::take(&mut state.cost);
                    drop(state);
                    self.room.free(cost);
                    return Ok(count);
                }
                if let Some(end) = state.end.as_mut() {
                    let end = std::mem::replace(end, Ok(()));
                    state.told = true;
                    return end.map(|()| 0);
                }
            }
            let _waiting = self.room.wait();
            filled.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(max_items: usize, max_queued: usize) -> (Pipe, Arc<Room>) {
        let room = Arc::new(Room::default());
        let limits = Limits { max_items, max_queued, ..Limits::REMOTE };
        (Pipe::new(Arc::clone(&room), limits), room)
    }

    fn items(count: usize) -> VecDeque<Body> {
        (0..count).map(|_| Body::Binary(vec![0; 100].into())).collect()
    }

    #[tokio::test]
    async fn a_full_queue_leaves_the_rest_and_takes_it_when_there_is_room() {
        let (pipe, room) = pipe(2, 1 << 20);
        let mut rest = items(3);
        assert!(!pipe.push(&mut rest));
        assert_eq!((rest.len(), room.queued()), (1, 2 * (100 + ITEM_COST)));
        assert!(matches!(pipe.recv().await, Some(Ok(_))));
        assert!(pipe.push(&mut rest));
        assert_eq!(pipe.recv_many(&mut Vec::new()).await, Ok(2));
        assert_eq!(room.queued(), 0);
    }

    #[tokio::test]
    async fn a_stream_may_use_all_room_while_an_answer_is_due() {
        let (pipe, room) = pipe(2, 10 * (100 + ITEM_COST));
        let due = room.wait_for_answer();
        let mut rest = items(12);
        assert!(!pipe.push(&mut rest));
        assert_eq!(rest.len(), 2);
        drop(due);
        pipe.recv_many(&mut Vec::new()).await.unwrap();
        assert!(pipe.push(&mut rest));
    }

    #[test]
    fn an_item_longer_than_all_room_is_taken_alone() {
        let (pipe, _room) = pipe(2, 10);
        let mut rest = items(2);
        assert!(!pipe.push(&mut rest));
        assert_eq!(rest.len(), 1);
    }

    #[tokio::test]
    async fn an_abandoned_queue_swallows_items_and_keeps_its_end() {
        let (pipe, room) = pipe(2, 1 << 20);
        pipe.push(&mut items(1));
        assert!(!pipe.abandon());
        assert!(pipe.push(&mut items(5)));
        assert_eq!(room.queued(), 0);
        pipe.end(Err(CallError::Ended("enough".into())));
        assert_eq!(pipe.recv_many(&mut Vec::new()).await, Err(CallError::Ended("enough".into())));
        assert_eq!(pipe.recv_many(&mut Vec::new()).await, Ok(0));
    }
}
