//! What comes for a link whose reader is behind.
//!
//! A slow reader has to slow the sender down, and be served at once when it reads on. SCTP's window alone does only the
//! first: the core doesn't tell the sender that its window has opened again, so that the sender asks, after a second,
//! then two, then four. So when the reader is behind, packets are held back for a while, just as in a slow network: the
//! sender waits for acknowledgements, and goes on as soon as the reader does. Only when the reader stands still for
//! longer do they go in, and the window closes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc::shared::TaggedBytesMut;

/// Bytes that wait to be read before what comes is held back.
pub(super) const INBOX: usize = 512 * 1024;
/// How long packets are held back. Shorter than the shortest time after which a peer sends anew: 400 ms in Chromium,
/// a second by the standard.
const HOLD: Duration = Duration::from_millis(250);
/// Bytes that are held back. A peer that keeps to the window of 1 MiB has no more under way, packets' overhead included.
const HELD: usize = 2 * 1024 * 1024;
/// Bytes of packets that go in while the reader stands still: the window, and 256 messages of the length that we send,
/// which the core takes out of the window in advance. A peer with longer messages sees packets lost beyond that.
const BACKLOG: usize = 6 * 1024 * 1024;

/// Packets on their way in, oldest first, and since when they are held back.
#[derive(Default)]
pub(super) struct Inlet {
    held: VecDeque<(Instant, TaggedBytesMut)>,
    bytes: usize,
    /// The reader stands still: nothing is held back, and the window closes.
    stalled: bool,
    /// Bytes that went in since the core had nothing left for the reader.
    backlog: usize,
}

impl Inlet {
    /// A packet has come while so many bytes are `unread`. `Some` if it goes in now.
    pub(super) fn arrived(&mut self, packet: TaggedBytesMut, unread: usize) -> Option<TaggedBytesMut> {
        let length = packet.message.len();
        if !packet.message.first().is_some_and(is_dtls) {
            // Checks whether we are there still.
            return Some(packet);
        }
        if self.stalled {
            self.backlog += length;
            return (self.backlog <= BACKLOG).then_some(packet);
        }
        if self.held.is_empty() && unread < INBOX {
            self.backlog += length;
            return Some(packet);
        }
        // What a peer sends beyond its window is lost.
        if self.bytes + length <= HELD {
            self.bytes += length;
            self.held.push_back((packet.now, packet));
        }
        None
    }

    /// The next packet to go in: when there is room, or it has waited for long enough.
    pub(super) fn next(&mut self, now: Instant, unread: usize, most: usize) -> Option<TaggedBytesMut> {
        let (since, _) = self.held.front()?;
        self.stalled |= now.saturating_duration_since(*since) >= HOLD;
        if !self.stalled && unread >= most {
            return None;
        }
        let (_, packet) = self.held.pop_front()?;
        self.bytes -= packet.message.len();
        self.backlog += packet.message.len();
        Some(packet)
    }

    /// The core has nothing left for the reader, who takes more.
    pub(super) fn caught_up(&mut self) {
        self.stalled = false;
        self.backlog = 0;
    }

    /// Whether anything is held back.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// When the oldest packet has waited for long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|(since, _)| *since + HOLD)
    }
}

/// By its first byte (RFC 7983).
pub(super) fn is_dtls(first: &u8) -> bool {
    (20..=63).contains(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    fn packet(now: Instant, first: u8, length: usize) -> TaggedBytesMut {
        let mut message = BytesMut::zeroed(length);
        message[0] = first;
        TaggedBytesMut { now, transport: Default::default(), message }
    }

    /// Takes packets of 1,000 bytes until one doesn't go in.
    fn fill(inlet: &mut Inlet, now: Instant, unread: usize) -> usize {
        (0..100_000).take_while(|_| inlet.arrived(packet(now, 23, 1000), unread).is_some()).count() * 1000
    }

    #[test]
    fn packets_go_in_while_the_reader_keeps_up_and_are_held_back_in_order_when_it_does_not() {
        let (mut inlet, now) = (Inlet::default(), Instant::now());
        assert!(inlet.arrived(packet(now, 23, 1), INBOX - 1).is_some());
        for length in [2, 3] {
            assert!(inlet.arrived(packet(now, 23, length), INBOX).is_none());
        }
        assert!(inlet.next(now, INBOX, INBOX).is_none());
        // Room, but others wait already.
        assert!(inlet.arrived(packet(now, 23, 4), 0).is_none());
        let lengths = std::iter::from_fn(|| inlet.next(now, 0, INBOX)).map(|packet| packet.message.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [2, 3, 4]);
        assert!(!inlet.holds());
        assert!(inlet.arrived(packet(now, 23, 1), 0).is_some());
    }

    #[test]
    fn checks_whether_we_are_there_go_in_at_once() {
        let (mut inlet, now) = (Inlet::default(), Instant::now());
        assert!(inlet.arrived(packet(now, 23, 1), INBOX).is_none());
        assert!(inlet.arrived(packet(now, 0, 1), INBOX).is_some());
    }

    #[test]
    fn when_the_reader_stands_still_packets_go_in_until_the_window_closes_and_no_further() {
        let (mut inlet, now) = (Inlet::default(), Instant::now());
        assert!(inlet.arrived(packet(now, 23, 1000), INBOX).is_none());
        let late = inlet.deadline().unwrap();
        assert!(inlet.next(late - Duration::from_millis(1), INBOX, INBOX).is_none());
        assert!(inlet.next(late, INBOX, INBOX).is_some());
        let went_in = fill(&mut inlet, late, INBOX) + 1000;
        assert!((BACKLOG - 1000..=BACKLOG).contains(&went_in), "{went_in}");
        inlet.caught_up();
        assert!(inlet.arrived(packet(late, 23, 1000), 0).is_some());
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let (mut inlet, now) = (Inlet::default(), Instant::now());
        for _ in 0..10_000 {
            assert!(inlet.arrived(packet(now, 23, 1000), INBOX).is_none());
        }
        assert!(inlet.bytes <= HELD && inlet.held.len() == HELD / 1000);
    }
}
