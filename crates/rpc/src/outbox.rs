//! What waits to be written to the connection.
//!
//! Packets are encoded straight into one buffer, which the writer swaps for an empty one and writes whole: many small
//! packets cost one system call. Whoever sends data waits while the buffer is full; ends and refusals always fit, as each
//! open request causes one at most.

use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::codec::{self, Packet};
use crate::room::Room;

/// Data waits once so many bytes are in the buffer.
pub(crate) const HIGH_WATER: usize = 256 * 1024;

/// The reader stops once so many bytes of its own refusals are in the buffer: somebody asks and asks, and doesn't read the
/// answers. Other packets don't count: two sides that both have large answers for each other must go on reading.
const FLOOD: usize = 4 * HIGH_WATER;

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
    drained: Notify,
    room: Arc<Room>,
}

impl Outbox {
    pub(crate) fn new(room: Arc<Room>) -> Outbox {
        Outbox { state: Mutex::default(), filled: Notify::new(), drained: Notify::new(), room }
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
            tokio::pin!(drained);
            drained.as_mut().enable();
            let mut all = false;
            let full = {
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
                state.packets == before
            };
            if !full {
                self.filled.notify_one();
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
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let state = self.state.lock();
                if state.refusals < FLOOD || state.closed {
                    return;
                }
            }
            drained.await;
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
    }

    /// For the writer: all that waits, swapped for `empty`. `None` when everything has been written and no more comes.
    pub(crate) async fn take(&self, mut empty: BytesMut) -> Option<BytesMut> {
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
                    self.drained.notify_waiters();
                    return Some(empty);
                }
                if state.closing {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    pub(crate) fn packets(&self) -> u64 {
        self.state.lock().packets
    }
}
