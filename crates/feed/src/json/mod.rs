//! JSON as V8 reads and prints it.
//!
//! A classic message is signed over `JSON.stringify(message, null, 2)` and stored as `JSON.stringify(message)`, so both
//! must come out to the byte. [`parse`] reads a text as `JSON.parse` does and keeps, for each scalar, the very text that
//! `JSON.stringify` would print: a piece of the input where that is the same, else a piece of a side buffer. Nothing is
//! decoded twice, and lone surrogates (which no Rust string can hold) stay as the escapes that V8 prints.
//!
//! Objects come out in JavaScript's order: integer-like keys first, ascending; a key given twice keeps its first place
//! and its last value. Source: ECMA-262, `JSON.parse`, `JSON.stringify`, `OrdinaryOwnPropertyKeys`.

mod parse;
mod print;

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

/// Longest text that is read, in bytes: places in it are 32-bit offsets, and the side buffer may grow to six times the text.
///
/// Nesting has no bound of its own: neither reading nor printing recurses.
pub const MAX_INPUT: usize = (u32::MAX / 8) as usize;

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
    parse::Parser::new(input).document()
}

fn piece_bytes<'d>(input: &'d [u8], side: &'d [u8], piece: Piece) -> &'d [u8] {
    let (start, end) = (piece.start as usize, piece.end as usize);
    if start >= input.len() && end > input.len() {
        &side[start - input.len()..end - input.len()]
    } else {
        &input[start..end]
    }
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
}
