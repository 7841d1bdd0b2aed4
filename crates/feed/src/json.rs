//! JSON as V8 reads and prints it.
//!
//! A classic message is signed over `JSON.stringify(message, null, 2)` and stored as `JSON.stringify(message)`, so both
//! must come out to the byte. [`parse`] reads a text as `JSON.parse` does and keeps, for each scalar, the very text that
//! `JSON.stringify` would print: a piece of the input where that is the same, else a piece of a side buffer. Nothing is
//! decoded twice, and lone surrogates (which no Rust string can hold) stay as the escapes that V8 prints.
//!
//! Objects come out in JavaScript's order: integer-like keys first, ascending; a key given twice keeps its first place
//! and its last value. Source: ECMA-262, `JSON.parse`, `JSON.stringify`, `OrdinaryOwnPropertyKeys`.

use std::collections::HashMap;

/// Why a text is no JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no JSON at byte {at}: {what}")]
pub struct JsonError {
    /// Offset in the input, in bytes.
    pub at: usize,
    /// What was expected or found.
    pub what: &'static str,
}

/// A piece of the input or, above its length, of the side buffer.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
enum Node {
    /// A number, `true`, `false` or `null`, as printed.
    Scalar(Piece),
    /// A string with its quotes, as printed.
    Text(Piece),
    /// Range in `items`.
    Array(u32, u32),
    /// Range in `entries`.
    Object(u32, u32),
}

/// A parsed text. [`Document::root`] is its value.
#[derive(Debug)]
pub struct Document<'a> {
    input: &'a [u8],
    side: Vec<u8>,
    items: Vec<Node>,
    entries: Vec<(Piece, Node)>,
    root: Node,
}

/// One value in a [`Document`].
#[derive(Clone, Copy)]
pub struct Value<'d, 'a> {
    document: &'d Document<'a>,
    node: Node,
}

/// What a [`Value`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Longest input: pieces are 32-bit offsets into the input and a side buffer of at most six times its length.
const MAX_INPUT: usize = (u32::MAX / 8) as usize;

/// Objects with more entries than this look for duplicate keys with a hash table.
const SMALL_OBJECT: usize = 12;

/// Reads one JSON text, white space around it allowed.
///
/// # Errors
/// [`JsonError`] where `JSON.parse` throws, if the text is not UTF-8, or if it is longer than 512 MiB.
pub fn parse(input: &[u8]) -> Result<Document<'_>, JsonError> {
    if input.len() > MAX_INPUT {
        return Err(JsonError { at: MAX_INPUT, what: "the text is too long" });
    }
    if let Err(error) = std::str::from_utf8(input) {
        return Err(JsonError { at: error.valid_up_to(), what: "not UTF-8" });
    }
    let mut parser = Parser { input, at: 0, side: Vec::new() };
    parser.document()
}

/// An array or object that is still open.
enum Open {
    Array { items: usize },
    Object { entries: usize, key: Piece },
}

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    side: Vec<u8>,
}

impl<'a> Parser<'a> {
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

    fn document(&mut self) -> Result<Document<'a>, JsonError> {
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
        Ok(Document { input: self.input, side: std::mem::take(&mut self.side), items, entries, root })
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
        self.at += 1;
        loop {
            match self.input.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Piece { start: start as u32, end: self.at as u32 });
                }
                Some(b'\\') => return self.escaped_text(start),
                Some(0..=0x1f) => return self.error("a control character in a string"),
                Some(_) => self.at += 1,
                None => return self.error("the text ends in a string"),
            }
        }
    }

    /// The rest of a string whose first escape is here; what `JSON.stringify` prints for it goes to the side.
    fn escaped_text(&mut self, start: usize) -> Result<Piece, JsonError> {
        let side_start = (self.input.len() + self.side.len()) as u32;
        self.side.extend_from_slice(&self.input[start..self.at]);
        loop {
            match self.input.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    self.side.push(b'"');
                    return Ok(Piece { start: side_start, end: (self.input.len() + self.side.len()) as u32 });
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0..=0x1f) => return self.error("a control character in a string"),
                Some(byte) => {
                    self.side.push(*byte);
                    self.at += 1;
                }
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

fn piece_bytes<'d>(input: &'d [u8], side: &'d [u8], piece: Piece) -> &'d [u8] {
    let (start, end) = (piece.start as usize, piece.end as usize);
    if start >= input.len() && end > input.len() {
        &side[start - input.len()..end - input.len()]
    } else {
        &input[start..end]
    }
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

impl<'a> Document<'a> {
    /// The value that the text is.
    pub fn root(&self) -> Value<'_, 'a> {
        Value { document: self, node: self.root }
    }

    fn bytes(&self, piece: Piece) -> &[u8] {
        piece_bytes(self.input, &self.side, piece)
    }
}

impl<'d, 'a> Value<'d, 'a> {
    /// What this value is.
    pub fn kind(&self) -> Kind {
        match self.node {
            Node::Text(_) => Kind::String,
            Node::Array(..) => Kind::Array,
            Node::Object(..) => Kind::Object,
            Node::Scalar(piece) => match self.document.bytes(piece)[0] {
                b't' | b'f' => Kind::Boolean,
                b'n' => Kind::Null,
                _ => Kind::Number,
            },
        }
    }

    /// The printed text of a scalar or string, with a string's quotes; empty for arrays and objects.
    pub fn printed(&self) -> &'d [u8] {
        match self.node {
            Node::Text(piece) | Node::Scalar(piece) => self.document.bytes(piece),
            _ => b"",
        }
    }

    /// The inside of a string as printed, escapes and all; `None` if this is no string.
    pub fn escaped(&self) -> Option<&'d [u8]> {
        match self.node {
            Node::Text(piece) => {
                let quoted = self.document.bytes(piece);
                Some(&quoted[1..quoted.len() - 1])
            }
            _ => None,
        }
    }

    /// The number, if this is one.
    pub fn number(&self) -> Option<f64> {
        if self.kind() != Kind::Number {
            return None;
        }
        std::str::from_utf8(self.printed()).ok()?.parse().ok()
    }

    /// How many entries or items.
    pub fn len(&self) -> usize {
        match self.node {
            Node::Array(start, end) | Node::Object(start, end) => (end - start) as usize,
            _ => 0,
        }
    }

    /// Whether there are no entries or items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items of an array.
    pub fn items(&self) -> impl Iterator<Item = Value<'d, 'a>> + use<'d, 'a> {
        let document = self.document;
        let range = if let Node::Array(start, end) = self.node { start as usize..end as usize } else { 0..0 };
        document.items[range].iter().map(move |node| Value { document, node: *node })
    }

    /// The entries of an object in order, keys escaped as printed and without quotes.
    pub fn entries(&self) -> impl Iterator<Item = (&'d [u8], Value<'d, 'a>)> + use<'d, 'a> {
        let document = self.document;
        let range = if let Node::Object(start, end) = self.node { start as usize..end as usize } else { 0..0 };
        document.entries[range].iter().map(move |(key, node)| {
            let quoted = document.bytes(*key);
            (&quoted[1..quoted.len() - 1], Value { document, node: *node })
        })
    }

    /// The value under `key`, if this is an object that has it. `key` must need no escapes.
    pub fn get(&self, key: &str) -> Option<Value<'d, 'a>> {
        self.entries().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
    }

    /// Appends what `JSON.stringify(value)` prints.
    pub fn print(&self, out: &mut Vec<u8>) {
        self.write(out, None);
    }

    /// Appends what `JSON.stringify(value, null, 2)` prints, each line but the first behind `depth` levels.
    pub fn print_indented(&self, out: &mut Vec<u8>, depth: usize) {
        self.write(out, Some(depth));
    }

    fn write(&self, out: &mut Vec<u8>, indent: Option<usize>) {
        let document = self.document;
        // What is left to print of each open array or object.
        enum Rest {
            Items(u32, u32),
            Entries(u32, u32),
        }
        let mut open: Vec<Rest> = Vec::new();
        let newline = |out: &mut Vec<u8>, depth: usize| {
            if let Some(base) = indent {
                out.push(b'\n');
                out.resize(out.len() + 2 * (base + depth), b' ');
            }
        };
        let begin = |out: &mut Vec<u8>, open: &mut Vec<Rest>, node: Node| match node {
            Node::Scalar(piece) | Node::Text(piece) => out.extend_from_slice(document.bytes(piece)),
            Node::Array(start, end) if start == end => out.extend_from_slice(b"[]"),
            Node::Object(start, end) if start == end => out.extend_from_slice(b"{}"),
            Node::Array(start, end) => {
                out.push(b'[');
                open.push(Rest::Items(start, end));
                newline(out, open.len());
            }
            Node::Object(start, end) => {
                out.push(b'{');
                open.push(Rest::Entries(start, end));
                newline(out, open.len());
            }
        };
        begin(out, &mut open, self.node);
        let mut fresh = true;
        while let Some(rest) = open.last_mut() {
            let depth_before;
            let node = match rest {
                Rest::Items(at, end) if *at < *end => {
                    let node = document.items[*at as usize];
                    *at += 1;
                    depth_before = open.len();
                    if !fresh {
                        out.push(b',');
                        newline(out, depth_before);
                    }
                    node
                }
                Rest::Entries(at, end) if *at < *end => {
                    let (key, node) = document.entries[*at as usize];
                    *at += 1;
                    depth_before = open.len();
                    if !fresh {
                        out.push(b',');
                        newline(out, depth_before);
                    }
                    out.extend_from_slice(document.bytes(key));
                    out.push(b':');
                    if indent.is_some() {
                        out.push(b' ');
                    }
                    node
                }
                closed => {
                    let bracket = if matches!(closed, Rest::Items(..)) { b']' } else { b'}' };
                    open.pop();
                    newline(out, open.len());
                    out.push(bracket);
                    fresh = false;
                    continue;
                }
            };
            begin(out, &mut open, node);
            // A child that opened has printed its own first line break.
            fresh = open.len() > depth_before;
        }
    }
}
