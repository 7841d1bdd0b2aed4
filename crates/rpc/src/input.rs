//! Memory into which the connection is read.
//!
//! Packets are slices of it, so that it can't be used again while any of them is kept. Under load they are let go of soon:
//! the same few pieces then go round, instead of new memory from the system for all that comes.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::codec::HEADER;

/// Read from the socket in pieces of this size, in bytes.
const READ: usize = 64 * 1024;

/// Size of the pieces while long packets come: two of those in which JavaScript peers send blobs, three of ours.
const LOADED: usize = 2 * (READ + HEADER);

/// What is kept of a piece is copied when it is less than this, half of a piece or a quarter of a large one: few items must
/// not keep much memory.
pub(crate) const WORTH_SHARING: usize = READ / 2;

/// Pieces that are kept for the time when their packets are let go of: as many as hold the blobs that are fetched from one
/// peer at a time.
const SPENT: usize = 32;

/// Fewer bytes at once, [`CALM`] times in a row, are no load that is worth keeping memory for.
pub(crate) const EBB: usize = READ / 8;

/// See [`EBB`].
pub(crate) const CALM: u32 = 16;

pub(crate) struct Input {
    /// What was read and isn't a whole packet yet, and room behind it.
    pub(crate) bytes: BytesMut,
    /// Size of the next piece.
    size: usize,
    /// A packet was longer than any piece should be.
    long: bool,
    /// So many times in a row, little came.
    small: u32,
    /// Nothing but the right to the memory, once nobody else has it.
    spent: VecDeque<BytesMut>,
}

impl Input {
    pub(crate) fn new() -> Input {
        Input { bytes: BytesMut::with_capacity(READ), size: READ, long: false, small: 0, spent: VecDeque::new() }
    }

    /// Makes room to read on.
    pub(crate) fn make_room(&mut self) {
        if std::mem::take(&mut self.long) {
            // The memory of a long packet is not to be kept.
            let room = self.size.max(self.bytes.len() + READ / 2);
            self.bytes = moved(&self.bytes, BytesMut::with_capacity(room));
        }
        if self.bytes.capacity() - self.bytes.len() >= READ / 2 {
            return;
        }
        if self.bytes.len() > self.size / 2 {
            // A long packet: its memory grows with what has come of it.
            return self.bytes.reserve(READ / 2);
        }
        let free = self.spent.iter_mut().position(|old| old.try_reclaim(self.size));
        let again = free.and_then(|at| self.spent.remove(at));
        let next = moved(&self.bytes, again.unwrap_or_else(|| BytesMut::with_capacity(self.size)));
        let mut old = std::mem::replace(&mut self.bytes, next);
        old.clear();
        if self.spent.len() >= SPENT {
            self.spent.pop_front();
        }
        self.spent.push_back(old);
    }

    /// A packet with a body of so many bytes has been taken.
    pub(crate) fn took(&mut self, body: usize) {
        if body >= READ / 2 {
            self.size = LOADED;
        }
        self.long |= body > READ;
    }

    /// So many bytes have come at once: with the traffic's ebb, what is kept for it becomes less.
    pub(crate) fn came(&mut self, count: usize) {
        self.small = if count < EBB { self.small.saturating_add(1) } else { 0 };
        if self.small >= CALM && self.spent.pop_front().is_none() {
            self.rest();
        }
    }

    /// Whether memory is kept that idling should give back.
    pub(crate) fn is_hoarding(&self) -> bool {
        self.size > READ || !self.spent.is_empty()
    }

    /// Gives back what isn't needed at the moment.
    pub(crate) fn rest(&mut self) {
        self.long |= self.size > READ;
        (self.size, self.spent) = (READ, VecDeque::new());
    }
}

fn moved(bytes: &[u8], mut to: BytesMut) -> BytesMut {
    to.extend_from_slice(bytes);
    to
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Reads a piece and takes all of it but `left` bytes as one packet.
    fn read(input: &mut Input, left: usize) -> Bytes {
        input.make_room();
        let room = input.bytes.capacity() - input.bytes.len();
        input.bytes.resize(input.bytes.len() + room, 7);
        let packet = input.bytes.split_to(input.bytes.len() - left).freeze();
        assert!(packet.iter().all(|byte| *byte == 7));
        packet
    }

    fn place(packet: &Bytes) -> usize {
        packet.as_ptr() as usize
    }

    #[test]
    fn memory_is_used_again_as_soon_as_its_packets_are_gone() {
        let mut input = Input::new();
        let mut places = std::collections::HashSet::new();
        let mut kept = VecDeque::new();
        for _ in 0..100 {
            let packet = read(&mut input, 100);
            places.insert(place(&packet) / READ);
            kept.push_back(packet);
            if kept.len() > 2 {
                kept.pop_front();
            }
        }
        assert!(places.len() <= 10, "{} places", places.len());
        assert_eq!(input.bytes[..], [7; 100]);
    }

    #[test]
    fn while_long_packets_come_pieces_hold_several_and_are_used_again() {
        for body in [40 * 1024, READ] {
            let (mut input, mut sent, mut places) = (Input::new(), 0, std::collections::HashSet::new());
            let mut kept = VecDeque::new();
            for _ in 0..500 {
                input.make_room();
                let count = READ.min(input.bytes.capacity() - input.bytes.len());
                input.bytes.extend((sent..sent + count).map(|at| (at / (HEADER + body)) as u8));
                sent += count;
                while input.bytes.len() >= HEADER + body {
                    let packet = input.bytes.split_to(HEADER + body).freeze();
                    assert!(packet.iter().all(|byte| *byte == packet[0]));
                    input.took(body);
                    places.insert(place(&packet));
                    kept.push_back(packet);
                    if kept.len() > 8 {
                        kept.pop_front();
                    }
                }
                input.came(count);
            }
            assert!(places.len() <= 80, "{} places of packets of {body}", places.len());
            assert!(input.spent.len() <= SPENT);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_given_back() {
        let mut input = Input::new();
        let kept: Vec<Bytes> = (0..100).map(|_| read(&mut input, 100)).collect();
        assert_eq!(input.spent.len(), SPENT);
        input.came(EBB);
        assert_eq!(input.spent.len(), SPENT);
        (1..CALM).for_each(|_| input.came(EBB - 1));
        assert_eq!(input.spent.len(), SPENT);
        input.came(EBB - 1);
        assert_eq!(input.spent.len(), SPENT - 1);
        drop(kept);
        input.rest();
        assert!(!input.is_hoarding());
    }

    #[test]
    fn a_large_piece_is_given_back_when_little_comes_or_nothing() {
        for calm in [|input: &mut Input| (0..=CALM as usize + SPENT).for_each(|_| input.came(1)), Input::rest] {
            let mut input = Input::new();
            input.took(READ);
            (0..5).for_each(|_| drop(read(&mut input, 10)));
            assert!(input.is_hoarding());
            calm(&mut input);
            assert!(!input.is_hoarding());
            input.make_room();
            assert!(input.bytes.capacity() <= READ && input.bytes[..] == [7; 10]);
        }
    }

    #[test]
    fn a_packet_that_is_kept_keeps_no_other_memory_from_being_used_again() {
        let mut input = Input::new();
        let _kept = read(&mut input, 0);
        input.took(2 * READ);
        let places: std::collections::HashSet<_> = (0..100).map(|_| place(&read(&mut input, 0))).collect();
        assert!(places.len() <= 6, "{} places", places.len());
    }

    #[test]
    fn packets_that_are_kept_stay_as_they_are() {
        let mut input = Input::new();
        let kept: Vec<Bytes> = (0..20).map(|_| read(&mut input, 10)).collect();
        input.make_room();
        input.bytes.extend_from_slice(&[9; READ / 2]);
        assert!(kept.iter().all(|packet| packet.iter().all(|byte| *byte == 7)));
    }

    #[test]
    fn a_long_packet_grows_and_its_memory_is_parted_with() {
        let mut input = Input::new();
        for _ in 0..10 {
            input.make_room();
            input.bytes.extend_from_slice(&[7; READ / 2]);
            assert!(input.bytes.capacity() <= 4 * input.bytes.len().max(READ), "more than what has come");
        }
        assert_eq!(input.bytes.len(), 5 * READ);
        let long = input.bytes.split_to(5 * READ - 10).freeze();
        input.took(long.len());
        input.make_room();
        assert!(long.is_unique() && input.bytes[..] == [7; 10]);
    }
}
