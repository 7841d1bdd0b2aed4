//! Reading: [`Parser`] goes over the text once, without recursion.

use std::collections::HashMap;

use super::{Document, JsonError, Node, Piece, piece_bytes};

/// Objects with more entries than this look for duplicate keys with a hash table.
const SMALL_OBJECT: usize = 12;

/// An array or object that is still open.
enum Open {
    Array { items: usize },
    Object { entries: usize, key: Piece },
}

pub(super) struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    side: Vec<u8>,
}

impl<'a> Parser<'a> {
    /// `input` is UTF-8 and no longer than [`super::MAX_INPUT`].
    pub(super) fn new(input: &'a [u8]) -> Parser<'a> {
        Parser { input, at: 0, side: Vec::new() }
    }

    fn error<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    pub(super) fn document(mut self) -> Result<Document<'a>, JsonError> {
        let mut open: Vec<Open> = Vec::new();
        // Children of open arrays and objects wait here until their parent closes.
        let mut waiting_items: Vec<Node> = Vec::new();
        let mut waiting_entries: Vec<(Piece, Node)> = Vec::new();
        let mut items: Vec<Node> = Vec::new();
        let mut entries: Vec<(Piece, Node)> = Vec::with_capacity(16);
        let root = loop {
            self.space();
            // Descend to the next complete value.
            let mut value = match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                        Node::Object(0, 0)
                    } else {
                        let key = self.key()?;
                        open.push(Open::Object { entries: waiting_entries.len(), key });
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        Node::Array(0, 0)
                    } else {
                        open.push(Open::Array { items: waiting_items.len() });
                        continue;
                    }
                }
                Some(b'"') => Node::Text(self.text()?),
                Some(b'-' | b'0'..=b'9') => Node::Scalar(self.number()?),
                Some(b't') => Node::Scalar(self.word(b"true")?),
                Some(b'f') => Node::Scalar(self.word(b"false")?),
                Some(b'n') => Node::Scalar(self.word(b"null")?),
                Some(_) => return self.error("expected a value"),
                None => return self.error("the text ends where a value should be"),
            };
            // Hand it to its parent, and close every parent that ends here.
            loop {
                let Some(parent) = open.last_mut() else {
                    self.space();
                    if self.at < self.input.len() {
                        return self.error("something follows the value");
                    }
                    break;
                };
                match parent {
                    Open::Array { items: first } => {
                        waiting_items.push(value);
                        let first = *first;
                        self.space();
                        match self.peek() {
                            Some(b',') => self.at += 1,
                            Some(b']') => {
                                self.at += 1;
                                let start = items.len() as u32;
                                items.extend(waiting_items.drain(first..));
                                value = Node::Array(start, items.len() as u32);
                                open.pop();
                                continue;
                            }
                            _ => return self.error("expected , or ] in an array"),
                        }
                    }
                    Open::Object { entries: first, key } => {
                        waiting_entries.push((*key, value));
                        let first = *first;
                        self.space();
                        match self.peek() {
                            Some(b',') => {
                                self.at += 1;
                                self.space();
                                let next = self.key()?;
                                if let Some(Open::Object { key, .. }) = open.last_mut() {
                                    *key = next;
                                }
                            }
                            Some(b'}') => {
                                self.at += 1;
                                self.arrange(&mut waiting_entries, first);
                                let start = entries.len() as u32;
                                entries.extend(waiting_entries.drain(first..));
                                value = Node::Object(start, entries.len() as u32);
                                open.pop();
                                continue;
                            }
                            _ => return self.error("expected , or } in an object"),
                        }
                    }
                }
                break;
            }
            if open.is_empty() {
                break value;
            }
        };
        Ok(Document { input: self.input, side: self.side, items, entries, root })
    }

    fn bytes(&self, piece: Piece) -> &[u8] {
        piece_bytes(self.input, &self.side, piece)
    }

    fn key(&mut self) -> Result<Piece, JsonError> {
        if self.peek() != Some(b'"') {
            return self.error("expected a key in quotes");
        }
        let key = self.text()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.error("expected : after a key");
        }
        self.at += 1;
        Ok(key)
    }

    /// Puts the entries from `first` on into JavaScript's order.
    fn arrange(&self, entries: &mut Vec<(Piece, Node)>, first: usize) {
        let own = &entries[first..];
        let odd = own.iter().any(|(key, _)| self.bytes(*key)[1].is_ascii_digit()) || self.has_twins(own);
        if !odd {
            return;
        }
        let mut order: Vec<(Piece, Node)> = Vec::with_capacity(own.len());
        let mut places: HashMap<Vec<u8>, usize> = HashMap::with_capacity(own.len());
        for (key, node) in own {
            match places.entry(self.bytes(*key).to_vec()) {
                std::collections::hash_map::Entry::Occupied(place) => order[*place.get()].1 = *node,
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(order.len());
                    order.push((*key, *node));
                }
            }
        }
        // Stable: keys that are no index keep their order, behind all that are.
        order.sort_by_key(|(key, _)| array_index(self.bytes(*key)).map_or(u64::MAX, u64::from));
        entries.truncate(first);
        entries.extend(order);
    }

    fn has_twins(&self, entries: &[(Piece, Node)]) -> bool {
        if entries.len() <= SMALL_OBJECT {
            return entries.iter().enumerate().any(|(at, (key, _))| {
                let key = self.bytes(*key);
                entries[..at].iter().any(|(other, _)| self.bytes(*other) == key)
            });
        }
        let mut seen = std::collections::HashSet::with_capacity(entries.len());
        entries.iter().any(|(key, _)| !seen.insert(self.bytes(*key)))
    }

    fn word(&mut self, word: &'static [u8]) -> Result<Piece, JsonError> {
        if !self.input[self.at..].starts_with(word) {
            return self.error("expected a value");
        }
        let start = self.at as u32;
        self.at += word.len();
        Ok(Piece { start, end: self.at as u32 })
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == from { self.error("expected a digit") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Piece, JsonError> {
        let start = self.at;
        let mut plain = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        if self.peek() == Some(b'0') {
            self.at += 1;
            // -0 prints as 0
            plain &= first == start;
        } else {
            self.digits()?;
        }
        plain &= self.at - first <= 15;
        if self.peek() == Some(b'.') {
            plain = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            plain = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if plain {
            return Ok(Piece { start: start as u32, end: self.at as u32 });
        }
        let text = std::str::from_utf8(&self.input[start..self.at]).unwrap_or_default();
        let Ok(number) = text.parse::<f64>() else { return self.error("expected a number") };
        if number.is_finite() {
            let mut buffer = ryu_js::Buffer::new();
            let printed = buffer.format_finite(number);
            Ok(self.aside(printed.as_bytes()))
        } else {
            Ok(self.aside(b"null"))
        }
    }

    fn aside(&mut self, bytes: &[u8]) -> Piece {
        let start = (self.input.len() + self.side.len()) as u32;
        self.side.extend_from_slice(bytes);
        Piece { start, end: (self.input.len() + self.side.len()) as u32 }
    }

    /// A string, from its opening quote to behind its closing one.
    fn text(&mut self) -> Result<Piece, JsonError> {
        let start = self.at;
        self.at = end_of_run(self.input, self.at + 1);
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(Piece { start: start as u32, end: self.at as u32 })
            }
            Some(b'\\') => self.escaped_text(start),
            Some(_) => self.error("a control character in a string"),
            None => self.error("the text ends in a string"),
        }
    }

    /// The rest of a string whose first escape is here; what `JSON.stringify` prints for it goes to the side.
    fn escaped_text(&mut self, start: usize) -> Result<Piece, JsonError> {
        let side_start = (self.input.len() + self.side.len()) as u32;
        self.side.extend_from_slice(&self.input[start..self.at]);
        loop {
            let run = self.at;
            self.at = end_of_run(self.input, run);
            self.side.extend_from_slice(&self.input[run..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.side.push(b'"');
                    return Ok(Piece { start: side_start, end: (self.input.len() + self.side.len()) as u32 });
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return self.error("a control character in a string"),
                None => return self.error("the text ends in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let Some(letter) = self.peek() else { return self.error("the text ends in an escape") };
        self.at += 1;
        match letter {
            b'"' => self.side.extend_from_slice(b"\\\""),
            b'\\' => self.side.extend_from_slice(b"\\\\"),
            b'/' => self.side.push(b'/'),
            b'b' => self.side.extend_from_slice(b"\\b"),
            b'f' => self.side.extend_from_slice(b"\\f"),
            b'n' => self.side.extend_from_slice(b"\\n"),
            b'r' => self.side.extend_from_slice(b"\\r"),
            b't' => self.side.extend_from_slice(b"\\t"),
            b'u' => {
                let unit = self.four_hex()?;
                self.unit(unit)?;
            }
            _ => {
                self.at -= 1;
                return self.error("no such escape");
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: u16) -> Result<(), JsonError> {
        if (0xd800..0xdc00).contains(&unit) && self.input[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let low = self.four_hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((u32::from(unit) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                self.push_char(char::from_u32(code));
                return Ok(());
            }
            // Not its other half: that escape is read again on its own.
            self.at = back;
        }
        self.push_unit(unit);
        Ok(())
    }

    fn push_char(&mut self, char: Option<char>) {
        if let Some(char) = char {
            self.side.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn push_unit(&mut self, unit: u16) {
        match unit {
            0x08 => self.side.extend_from_slice(b"\\b"),
            0x09 => self.side.extend_from_slice(b"\\t"),
            0x0a => self.side.extend_from_slice(b"\\n"),
            0x0c => self.side.extend_from_slice(b"\\f"),
            0x0d => self.side.extend_from_slice(b"\\r"),
            0x22 => self.side.extend_from_slice(b"\\\""),
            0x5c => self.side.extend_from_slice(b"\\\\"),
            0..=0x1f | 0xd800..=0xdfff => {
                self.side.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    self.side.push(b"0123456789abcdef"[usize::from((unit >> shift) & 15)]);
                }
            }
            _ => self.push_char(char::from_u32(u32::from(unit))),
        }
    }

    fn four_hex(&mut self) -> Result<u16, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return self.error("expected four hexadecimal digits") };
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }
}

/// Where the next quote, backslash or control character at or behind `at` is; the length of `input` if there is none.
///
/// Eight bytes at a time: each of the three tests sets the high bit of the bytes it is true of. A borrow may set it in
/// bytes above one that is truly meant, never below, and only the lowest counts.
fn end_of_run(input: &[u8], mut at: usize) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    while let Some(eight) = input.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(LOW * 0x20) & !word & HIGH;
        let found = control | zero(word ^ (LOW * 0x22)) | zero(word ^ (LOW * 0x5c));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = input.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')).unwrap_or(rest.len())
}

/// The number of a quoted key that is an array index (0 to 2³²−2, written canonically).
fn array_index(quoted: &[u8]) -> Option<u32> {
    let digits = &quoted[1..quoted.len() - 1];
    if digits.is_empty() || digits.len() > 10 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    let mut index = 0u64;
    for digit in digits {
        index = index * 10 + u64::from(char::from(*digit).to_digit(10)?);
    }
    u32::try_from(index).ok().filter(|index| *index != u32::MAX)
}
