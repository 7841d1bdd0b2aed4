//! Which requests are open, and what an incoming packet means for them.
//!
//! Numbers: our request `n` is sent as `n` and answered as `-n`. A [`Key`] is the number that *we* send: positive for
//! requests of ours, negative for theirs. A lone request ends with its answer; a stream ends when both sides have said
//! so. Source: packet-stream `index.js` and `substream.js`.
//!
//! Where the reference answers the end of a stream that it doesn't know with an end, this says [`Event::Stray`]: what ends
//! twice (the reference's duplexes do) needs no second answer.

use std::collections::HashMap;

use crate::codec::{Body, Packet};

/// The number under which we send for a request.
pub type Key = i32;

/// What an incoming packet means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// They ask something: answer under this key.
    Request(Key, Body),
    /// They open a stream: the body says which.
    Open(Key, Body),
    /// The answer to a lone request of ours.
    Answer(Key, Body),
    /// The error with which a lone request of ours failed.
    Failed(Key, Body),
    /// The next item of a stream.
    Item(Key, Body),
    /// They ended a stream, with `true` or an error.
    End(Key, Body),
    /// They have too many requests open: this one is refused, and forgotten already.
    Refused {
        /// Answer under this key.
        key: Key,
        /// Whether it is a stream.
        stream: bool,
    },
    /// Belongs to nothing that is open: an answer nobody waits for, an item after its end.
    Stray,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    stream: bool,
    we_ended: bool,
    they_ended: bool,
    /// Of the body with which they opened it.
    bytes: usize,
}

/// The open requests of one connection, both ways.
#[derive(Debug)]
pub struct Streams {
    open: HashMap<Key, Open>,
    last: i32,
    theirs: usize,
    theirs_bytes: usize,
    max_theirs: usize,
    max_theirs_bytes: usize,
}

impl Streams {
    /// None open yet; the other end may have `max_theirs` at a time, opened by bodies of `max_theirs_bytes` in all (a
    /// single one may be longer).
    pub fn new(max_theirs: usize, max_theirs_bytes: usize) -> Streams {
        Streams { open: HashMap::new(), last: 0, theirs: 0, theirs_bytes: 0, max_theirs, max_theirs_bytes }
    }

    /// Whether a request is open: its answer is due, or one side hasn't ended its stream.
    pub fn is_open(&self, key: Key) -> bool {
        self.open.contains_key(&key)
    }

    /// How many are open, both ways.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What we have yet to end: streams both ways, and lone requests of theirs. Each key, and whether it is a stream.
    pub fn unended(&self) -> Vec<(Key, bool)> {
        let open = self.open.iter().filter(|(key, open)| !open.we_ended && (open.stream || **key < 0));
        open.map(|(key, open)| (*key, open.stream)).collect()
    }

    /// Opens a request of ours.
    pub fn start(&mut self, stream: bool) -> Key {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.open.contains_key(&self.last) {
                self.open.insert(self.last, Open { stream, we_ended: false, they_ended: false, bytes: 0 });
                return self.last;
            }
        }
    }

    /// We send an end, or the answer to a lone request of theirs. False if that was done before or nothing is open:
    /// then nothing may be sent.
    pub fn end(&mut self, key: Key) -> bool {
        let Some(open) = self.open.get_mut(&key) else { return false };
        if open.we_ended {
            return false;
        }
        open.we_ended = true;
        if open.they_ended || !open.stream {
            self.forget(key);
        }
        true
    }

    /// Forgets a lone request of ours whose answer nobody waits for any more, or a stream that was never sent: what
    /// comes for it is [`Event::Stray`].
    pub fn forget(&mut self, key: Key) {
        if let Some(open) = self.open.remove(&key).filter(|_| key < 0) {
            self.theirs -= 1;
            self.theirs_bytes -= open.bytes;
        }
    }

    /// Takes a packet in.
    pub fn receive(&mut self, packet: Packet) -> Event {
        let Packet { request, stream, end, body } = packet;
        // i32::MIN has no counterpart.
        let Some(key) = request.checked_neg().filter(|key| *key != 0) else { return Event::Stray };
        if let Some(open) = self.open.get_mut(&key) {
            if open.stream != stream || open.they_ended {
                return Event::Stray;
            }
            if !stream {
                // Theirs: the same number again, before its answer.
                if key < 0 {
                    return Event::Stray;
                }
                self.forget(key);
                return if end { Event::Failed(key, body) } else { Event::Answer(key, body) };
            }
            if !end {
                return Event::Item(key, body);
            }
            open.they_ended = true;
            if open.we_ended {
                self.forget(key);
            }
            return Event::End(key, body);
        }
        if key > 0 || end {
            return Event::Stray;
        }
        let bytes = body.len();
        let too_long = self.theirs > 0 && self.theirs_bytes.saturating_add(bytes) > self.max_theirs_bytes;
        if too_long || self.theirs >= self.max_theirs {
            return Event::Refused { key, stream };
        }
        self.theirs += 1;
        self.theirs_bytes += bytes;
        self.open.insert(key, Open { stream, we_ended: false, they_ended: false, bytes });
        if stream { Event::Open(key, body) } else { Event::Request(key, body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(request: i32, stream: bool, end: bool) -> Packet {
        Packet { request, stream, end, body: Body::Json("1".into()) }
    }

    fn body() -> Body {
        Body::Json("1".into())
    }

    #[test]
    fn a_question_is_answered_once() {
        let mut streams = Streams::new(8, 100);
        let key = streams.start(false);
        assert_eq!(streams.receive(packet(-key, false, false)), Event::Answer(key, body()));
        assert_eq!(streams.receive(packet(-key, false, false)), Event::Stray);
        assert!(streams.is_empty());
    }

    #[test]
    fn a_stream_ends_when_both_have_ended_it() {
        let mut streams = Streams::new(8, 100);
        assert_eq!(streams.receive(packet(5, true, false)), Event::Open(-5, body()));
        assert_eq!(streams.receive(packet(5, true, false)), Event::Item(-5, body()));
        assert_eq!(streams.receive(packet(5, true, true)), Event::End(-5, body()));
        assert_eq!(streams.receive(packet(5, true, false)), Event::Stray);
        assert_eq!(streams.len(), 1);
        assert!(streams.end(-5));
        assert!(!streams.end(-5));
        assert!(streams.is_empty());
    }

    #[test]
    fn an_answer_to_nothing_is_stray() {
        let mut streams = Streams::new(8, 100);
        for (stream, end) in [(false, false), (false, true), (true, false), (true, true)] {
            assert_eq!(streams.receive(packet(-3, stream, end)), Event::Stray);
        }
        assert_eq!(streams.receive(packet(i32::MIN, true, false)), Event::Stray);
        assert_eq!(streams.receive(packet(0, false, false)), Event::Stray);
    }

    #[test]
    fn requests_beyond_the_limit_are_refused_and_answers_make_room() {
        let mut streams = Streams::new(1, 100);
        assert_eq!(streams.receive(packet(1, false, false)), Event::Request(-1, body()));
        assert_eq!(streams.receive(packet(2, true, false)), Event::Refused { key: -2, stream: true });
        assert!(streams.end(-1));
        assert_eq!(streams.receive(packet(3, true, false)), Event::Open(-3, body()));
    }

    #[test]
    fn long_requests_count_by_their_length() {
        let mut streams = Streams::new(8, 10);
        let long = |request| Packet { body: Body::Binary(vec![0; 20].into()), ..packet(request, false, false) };
        assert!(matches!(streams.receive(long(1)), Event::Request(-1, _)));
        assert_eq!(streams.receive(packet(2, false, false)), Event::Refused { key: -2, stream: false });
        assert!(streams.end(-1));
        assert!(matches!(streams.receive(packet(3, false, false)), Event::Request(-3, _)));
        assert_eq!(streams.receive(long(4)), Event::Refused { key: -4, stream: false });
    }

    proptest! {
        #[test]
        fn no_packets_open_more_than_the_limit(
            packets in proptest::collection::vec(
                (prop_oneof![4 => -6..6i32, 1 => any::<i32>()], any::<bool>(), any::<bool>(), any::<bool>()),
                0..200,
            ),
        ) {
            let mut streams = Streams::new(3, 100);
            let mut ours = 0;
            for (request, stream, end, ours_too) in packets {
                if ours_too && ours < 4 {
                    ours += 1;
                    streams.start(stream);
                }
                if let Event::End(key, _) = streams.receive(packet(request, stream, end)) {
                    streams.end(key);
                }
                prop_assert!(streams.len() <= 3 + ours);
            }
        }
    }
}
