//! What waits to be written to the connection.
//!
//! Packets are encoded straight into one buffer, which the writer swaps for an empty one and writes whole: many small
//! packets cost one system call. Whoever sends data waits while the buffer is full; ends and refusals always fit, as each
//! open request causes one at most.

use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::codec::{self, Packet};
use crate::room::Room;

/// Data waits once so many bytes are in the buffer.
const HIGH_WATER: usize = 256 * 1024;

/// Whoever waits for room is woken below so many bytes: there is room for more than a packet then.
const LOW_WATER: usize = HIGH_WATER / 2;

/// The reader stops once so many bytes of its own refusals are in the buffer: somebody asks and asks, and doesn't read the
/// answers. Other packets don't count: two sides that both have large answers for each other must go on reading.
const FLOOD: usize = 4 * HIGH_WATER;

/// Those who may prepare something large to be sent at the same time: while one waits for room, another reads ahead.
const TURNS: usize = 2;

/// Memory that is kept for what comes next, in bytes: what a full buffer and a packet more may have grown to.
const KEPT: usize = 4 * HIGH_WATER;

#[derive(Default)]
struct State {
    buffer: BytesMut,
    packets: u64,
    /// Bytes in the buffer that the reader put there.
    refusals: usize,
    closing: bool,
    closed: bool,
}

pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    /// One of those who wait for room. It wakes the next one if it leaves room, so that they don't all come for what one
    /// of them takes.
    drained: Notify,
    /// The reader, which waits for its refusals to be written.
    settled: Notify,
    /// See [`TURNS`].
    pub(crate) turns: Arc<Semaphore>,
    room: Arc<Room>,
}

impl Outbox {
    pub(crate) fn new(room: Arc<Room>) -> Outbox {
        Outbox {
            state: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            settled: Notify::new(),
            turns: Arc::new(Semaphore::new(TURNS)),
            room,
        }
    }

    /// Adds a packet, whatever waits already.
    pub(crate) fn push(&self, packet: &Packet) {
        self.add(packet, false);
    }

    /// Adds a packet with which the reader refuses something.
    pub(crate) fn refuse(&self, packet: &Packet) {
        self.add(packet, true);
    }

    fn add(&self, packet: &Packet, refusal: bool) {
        {
            let mut state = self.state.lock();
            if state.closing || state.closed {
                return;
            }
            let before = state.buffer.len();
            codec::encode(packet, &mut state.buffer);
            state.packets += 1;
            if refusal {
                state.refusals += state.buffer.len() - before;
            }
        }
        self.filled.notify_one();
    }

    /// Waits for room to send. False if nothing is written any more.
    pub(crate) async fn room(&self) -> bool {
        self.send(std::iter::empty()).await
    }

    /// Adds packets as room comes up, taking them from `packets` under the buffer's lock. False if nothing is written any
    /// more.
    pub(crate) async fn send(&self, packets: impl IntoIterator<Item = Packet>) -> bool {
        let mut packets = packets.into_iter();
        loop {
            let drained = self.drained.notified();
            let mut all = false;
            let (added, left) = {
                let mut state = self.state.lock();
                if state.closing || state.closed {
                    return false;
                }
                let before = state.packets;
                while state.buffer.len() < HIGH_WATER {
                    let Some(packet) = packets.next() else {
                        all = true;
                        break;
                    };
                    codec::encode(&packet, &mut state.buffer);
                    state.packets += 1;
                }
                (state.packets > before, state.buffer.len() < LOW_WATER)
            };
            if added {
                self.filled.notify_one();
            }
            if left {
                self.drained.notify_one();
            }
            if all {
                return true;
            }
            let _waiting = self.room.wait();
            drained.await;
        }
    }

    /// Waits until the buffer is not flooded with refusals.
    pub(crate) async fn settle(&self) {
        loop {
            let settled = self.settled.notified();
            {
                let state = self.state.lock();
                if state.refusals < FLOOD || state.closed {
                    return;
                }
            }
            settled.await;
        }
    }

    /// Nothing more may be sent; a goodbye goes out behind what is there.
    pub(crate) fn finish(&self) {
        {
            let mut state = self.state.lock();
            if state.closing || state.closed {
                return;
            }
            state.closing = true;
            codec::encode_goodbye(&mut state.buffer);
        }
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Nothing is written any more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
        self.drained.notify_waiters();
        self.settled.notify_waiters();
    }

    /// For the writer: all that waits, swapped for the memory of what was `written`. `None` when everything has been written
    /// and no more comes.
    pub(crate) async fn take(&self, written: BytesMut) -> Option<BytesMut> {
        let mut empty = emptied(written);
        loop {
            {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                if !state.buffer.is_empty() {
                    std::mem::swap(&mut state.buffer, &mut empty);
                    state.refusals = 0;
                    drop(state);
                    self.drained.notify_one();
                    self.settled.notify_waiters();
                    return Some(empty);
                }
                if state.closing {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Gives back memory that is kept for more, if nothing waits.
    pub(crate) fn rest(&self) {
        let mut state = self.state.lock();
        if state.buffer.is_empty() {
            state.buffer = BytesMut::new();
        }
    }

    pub(crate) fn packets(&self) -> u64 {
        self.state.lock().packets
    }
}

/// The same memory to be filled again, if it isn't what only something long needed.
fn emptied(mut written: BytesMut) -> BytesMut {
    written.clear();
    if written.capacity() > KEPT { BytesMut::new() } else { written }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::codec::Body;

    fn packets(request: i32, count: usize, bytes: usize) -> Vec<Packet> {
        let body = Body::Binary(vec![7; bytes].into());
        vec![Packet { request, stream: true, end: false, body }; count]
    }

    /// What the writer finds, as long as there is anything.
    async fn taken(outbox: &Outbox) -> Option<usize> {
        let taken = timeout(Duration::from_secs(1), outbox.take(BytesMut::new())).await;
        taken.ok().flatten().map(|buffer| buffer.len())
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_waits_for_room_is_forgotten() {
        let outbox = Arc::new(Outbox::new(Arc::default()));
        let senders: Vec<_> = (1..=20)
            .map(|request| {
                let outbox = Arc::clone(&outbox);
                // Some that fill the buffer, some that leave room, and some that have nothing to say but wait for it.
                let all = packets(request, 5 * (request as usize % 3), 1000 * request as usize * request as usize);
                tokio::spawn(async move { outbox.send(all).await })
            })
            .collect();
        let mut bytes = 0;
        while let Some(more) = taken(&outbox).await {
            assert!(more <= HIGH_WATER + 400_000 + codec::HEADER);
            bytes += more;
        }
        for sender in senders {
            assert!(sender.now_or_never().is_some_and(|sent| sent.unwrap()));
        }
        let expected: usize = (1..=20).map(|n| 5 * (n % 3) * (1000 * n * n + codec::HEADER)).sum();
        assert_eq!(bytes, expected);
    }

    #[tokio::test]
    async fn memory_is_used_again_and_given_back_by_resting() {
        let outbox = Outbox::new(Arc::default());
        for round in 0..10 {
            // Full, and a packet more, in memory that has doubled as it grew.
            outbox.push(&packets(1, 1, 1000 * round)[0]);
            packets(2, 4, 64 * 1024).iter().for_each(|packet| outbox.push(packet));
            let written = outbox.take(BytesMut::new()).await.unwrap();
            let size = written.capacity();
            assert!(written.len() > HIGH_WATER);
            assert_eq!(emptied(written).capacity(), size);
        }
        outbox.push(&packets(1, 1, 2 * KEPT)[0]);
        let long = outbox.take(BytesMut::with_capacity(KEPT)).await.unwrap();
        assert_eq!(emptied(long).capacity(), 0);
        let kept = || outbox.state.lock().buffer.capacity();
        assert_eq!(kept(), KEPT);
        outbox.push(&packets(1, 1, 10)[0]);
        outbox.rest();
        assert_eq!(kept(), KEPT);
        outbox.take(BytesMut::with_capacity(KEPT)).await.unwrap();
        outbox.rest();
        assert_eq!(kept(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_the_room_to_the_next() {
        let outbox = Outbox::new(Arc::default());
        outbox.push(&packets(1, 1, HIGH_WATER)[0]);
        let mut first = Box::pin(outbox.send(packets(2, 1, 10)));
        let mut second = Box::pin(outbox.send(packets(3, 1, 10)));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert!(taken(&outbox).await.is_some());
        drop(first);
        assert_eq!(second.now_or_never(), Some(true));
        assert_eq!(taken(&outbox).await, Some(10 + codec::HEADER));
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_hear_of_the_end() {
        let outbox = Outbox::new(Arc::default());
        outbox.push(&packets(1, 1, HIGH_WATER)[0]);
        let mut waiting: Vec<_> = (2..5).map(|request| Box::pin(outbox.send(packets(request, 1, 10)))).collect();
        assert!(waiting.iter_mut().all(|sender| sender.now_or_never().is_none()));
        outbox.finish();
        assert!(waiting.into_iter().all(|sender| sender.now_or_never() == Some(false)));
    }
}
