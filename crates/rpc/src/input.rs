//! Memory into which the connection is read.
//!
//! Packets are slices of it, so that it can't be used again while any of them is kept. Under load they are let go of soon:
//! the same few pieces then go round, instead of new memory from the system for all that comes.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Read from the socket in pieces of this size, in bytes.
pub(crate) const READ: usize = 64 * 1024;

/// Pieces that are kept for the time when their packets are let go of.
const SPENT: usize = 8;

/// Fewer bytes at once are no load that is worth keeping pieces for.
const EBB: usize = READ / 8;

pub(crate) struct Input {
    /// What was read and isn't a whole packet yet, and room behind it.
    pub(crate) bytes: BytesMut,
    /// Nothing but the right to the memory, once nobody else has it.
    spent: VecDeque<BytesMut>,
}

impl Input {
    pub(crate) fn new() -> Input {
        Input { bytes: BytesMut::with_capacity(READ), spent: VecDeque::new() }
    }

    /// Makes room to read on.
    pub(crate) fn make_room(&mut self) {
        if self.bytes.capacity() - self.bytes.len() >= READ / 2 {
            return;
        }
        if self.bytes.len() > READ / 2 {
            // A long packet: its memory grows with what has come of it.
            return self.bytes.reserve(READ / 2);
        }
        let free = self.spent.iter_mut().position(|old| old.try_reclaim(READ));
        let again = free.and_then(|at| self.spent.remove(at));
        let mut next = again.unwrap_or_else(|| BytesMut::with_capacity(READ));
        next.extend_from_slice(&self.bytes);
        let mut old = std::mem::replace(&mut self.bytes, next);
        old.clear();
        if self.spent.len() < SPENT {
            self.spent.push_back(old);
        }
    }

    /// So many bytes have come at once: with the traffic's ebb, what is kept for it becomes less.
    pub(crate) fn came(&mut self, count: usize) {
        if count < EBB {
            self.spent.pop_front();
        }
    }

    /// Whether memory is kept that idling should give back.
    pub(crate) fn is_hoarding(&self) -> bool {
        !self.spent.is_empty()
    }

    /// Gives back what isn't needed at the moment.
    pub(crate) fn rest(&mut self) {
        self.spent = VecDeque::new();
    }

    /// Moves what is left to memory of its own: that of a long packet is not to be kept.
    pub(crate) fn part(&mut self) {
        let mut own = BytesMut::with_capacity(READ.max(self.bytes.len() + READ / 2));
        own.extend_from_slice(&self.bytes);
        self.bytes = own;
    }
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

    #[test]
    fn memory_is_used_again_as_soon_as_its_packets_are_gone() {
        let mut input = Input::new();
        let mut places = std::collections::HashSet::new();
        let mut kept = VecDeque::new();
        for _ in 0..100 {
            let packet = read(&mut input, 100);
            places.insert(packet.as_ptr() as usize / READ);
            kept.push_back(packet);
            if kept.len() > 2 {
                kept.pop_front();
            }
        }
        assert!(places.len() <= 10, "{} places", places.len());
        assert_eq!(input.bytes[..], [7; 100]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_given_back() {
        let mut input = Input::new();
        let kept: Vec<Bytes> = (0..100).map(|_| read(&mut input, 100)).collect();
        assert_eq!(input.spent.len(), SPENT);
        input.came(EBB);
        assert_eq!(input.spent.len(), SPENT);
        input.came(EBB - 1);
        assert_eq!(input.spent.len(), SPENT - 1);
        drop(kept);
        input.rest();
        assert!(!input.is_hoarding());
    }

    #[test]
    fn a_packet_that_is_kept_keeps_no_other_memory_from_being_used_again() {
        let mut input = Input::new();
        let _kept = read(&mut input, 0);
        input.part();
        let places: std::collections::HashSet<_> = (0..100).map(|_| read(&mut input, 0).as_ptr() as usize).collect();
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
        }
        assert_eq!(input.bytes.len(), 5 * READ);
        let long = input.bytes.split_to(5 * READ - 10).freeze();
        input.part();
        assert!(long.is_unique() && input.bytes[..] == [7; 10]);
    }
}
