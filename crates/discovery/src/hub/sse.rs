//! Server-sent events, read without IO and within bounds (HTML standard, 9.2.6).
//!
//! Bytes come in pieces of any length ([`Reader::next`]), lines end with LF, CR or both, an empty line ends an event. Of an
//! event only its data matters here. A line or an event that is too long is passed over, and what follows is read again.

use super::message::MAX_MESSAGE;

/// Most bytes of a line: a message's and the name of its field.
const MAX_LINE: usize = MAX_MESSAGE + 16;

/// What has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The data of an event.
    Message(String),
    /// Something that says nothing, and shows that the other end lives: a comment, an empty event, a field that isn't data.
    Sign,
    /// An event that was too long, or no text.
    Unreadable,
}

/// Reads a stream of events.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    /// What there is of the event so far.
    data: Option<Vec<u8>>,
    /// The line, or the event, is too long: the rest of it is passed over.
    long_line: bool,
    spoiled: bool,
    /// The last byte was a CR: an LF belongs to it.
    after_cr: bool,
    begun: bool,
}

impl Reader {
    /// A reader of a stream that begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `bytes` up to the end of a line that completes something, and shortens them by what was read. `None` if all
    /// was read: then more is needed.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Event> {
        loop {
            if self.after_cr && !bytes.is_empty() {
                self.after_cr = false;
                *bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.take(part);
            let Some((last, rest)) = rest.split_first() else {
                *bytes = &[];
                return None;
            };
            self.after_cr = *last == b'\r';
            *bytes = rest;
            if let Some(event) = self.line_ended() {
                return Some(event);
            }
        }
    }

    /// Bytes that are kept.
    pub fn held(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, Vec::len)
    }

    fn take(&mut self, part: &[u8]) {
        if self.long_line || self.line.len() + part.len() > MAX_LINE {
            self.long_line = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn line_ended(&mut self) -> Option<Event> {
        let mut line = std::mem::take(&mut self.line);
        let mut text = &line[..];
        if !std::mem::replace(&mut self.begun, true) {
            text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        }
        let event = if std::mem::take(&mut self.long_line) {
            self.spoiled = true;
            None
        } else if text.is_empty() {
            self.event_ended()
        } else {
            self.field(text)
        };
        // Its memory is used again.
        line.clear();
        self.line = line;
        event
    }

    /// A line that isn't empty.
    fn field(&mut self, line: &[u8]) -> Option<Event> {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &[][..]),
        };
        if name != b"data" {
            return Some(Event::Sign);
        }
        if self.spoiled {
            return None;
        }
        let held = self.data.as_ref().map_or(0, |data| data.len() + 1);
        if held + value.len() > MAX_MESSAGE {
            (self.spoiled, self.data) = (true, None);
            return None;
        }
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            data @ None => *data = Some(value.to_vec()),
        }
        None
    }

    fn event_ended(&mut self) -> Option<Event> {
        let data = self.data.take();
        if std::mem::take(&mut self.spoiled) {
            return Some(Event::Unreadable);
        }
        Some(match data.map(String::from_utf8) {
            Some(Ok(text)) if !text.is_empty() => Event::Message(text),
            Some(Err(_)) => Event::Unreadable,
            Some(Ok(_)) | None => Event::Sign,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut reader = Reader::new();
        let mut events = Vec::new();
        while let Some(event) = reader.next(&mut bytes) {
            events.push(event);
        }
        events
    }

    fn messages(bytes: &[u8]) -> Vec<String> {
        let message = |event| if let Event::Message(text) = event { Some(text) } else { None };
        read(bytes).into_iter().filter_map(message).collect()
    }

    #[test]
    fn events_are_read_whatever_ends_their_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!(":heartbeat signal{end}{end}data: {{}}{end}{end}data:[1]{end}id: 7{end}{end}");
            assert_eq!(messages(text.as_bytes()), ["{}", "[1]"], "{end:?}");
        }
        assert_eq!(messages(b"\xef\xbb\xbfdata: a\ndata: b\ndata\n\n"), ["a\nb\n"]);
        assert_eq!(messages(b"data: cut off"), [""; 0]);
    }

    #[test]
    fn comments_and_empty_events_are_signs_of_life() {
        assert_eq!(read(b":heartbeat signal\n\n"), [Event::Sign, Event::Sign]);
        assert_eq!(read(b"data\n\nevent: x\n"), [Event::Sign, Event::Sign]);
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_the_next_is_read() {
        let long = "m".repeat(MAX_MESSAGE + 1);
        for first in [
            format!("data: {long}\n\n"),
            format!("data: {}\n\n", long.repeat(9)),
            format!(":{}\n\n", long.repeat(2)),
            format!("data: {0}\ndata: {0}\ndata: x\n\n", &long[..MAX_MESSAGE - 10]),
        ] {
            assert_eq!(
                read(format!("{first}data: next\n\n").as_bytes()),
                [Event::Unreadable, Event::Message("next".into())]
            );
        }
        assert_eq!(messages(format!("data: {}\n\n", &long[1..]).as_bytes()).len(), 1);
        assert_eq!(read(b"data: \xff\n\n"), [Event::Unreadable]);
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let (mut reader, piece) = (Reader::new(), [b'x'; 1 << 16]);
        for _ in 0..1_000 {
            assert_eq!(reader.next(&mut &piece[..]), None);
            assert!(reader.held() <= MAX_LINE);
        }
    }

    proptest! {
        #[test]
        fn it_is_no_matter_in_which_pieces_a_stream_comes(
            lines in proptest::collection::vec("(data: ?|:|event|x)?[a\u{e9}:]{0,4}(\r|\n|\r\n)", 0..40), cuts in proptest::collection::vec(0usize..200, 0..20)
        ) {
            let bytes = lines.concat().into_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut reader, mut events) = (Reader::new(), Vec::new());
            for pair in cuts.windows(2) {
                let mut piece = &bytes[pair[0]..pair[1]];
                while let Some(event) = reader.next(&mut piece) {
                    events.push(event);
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert_eq!(events, read(&bytes));
        }

        #[test]
        fn a_message_of_one_line_is_read_as_it_was_sent(message in "[^\r\n]{1,100}") {
            prop_assert_eq!(messages(format!("data: {message}\n\n").as_bytes()), [message]);
        }
    }
}
