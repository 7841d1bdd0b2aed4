//! Printing: `JSON.stringify`, compact or with two spaces, without recursion.

use super::{Node, Value};

/// What is left to print of an open array or object: a range of items or entries.
enum Rest {
    Items(u32, u32),
    Entries(u32, u32),
}

struct Printer<'o> {
    out: &'o mut Vec<u8>,
    open: Vec<Rest>,
    /// Levels of indentation of the root; `None` prints compactly.
    indent: Option<usize>,
}

impl Printer<'_> {
    fn newline(&mut self) {
        if let Some(base) = self.indent {
            self.out.push(b'\n');
            self.out.resize(self.out.len() + 2 * (base + self.open.len()), b' ');
        }
    }

    /// Prints a scalar, string or empty array or object; opens any other and prints its first line break.
    fn begin(&mut self, value: Value<'_, '_>) {
        let (bracket, rest) = match value.node {
            Node::Scalar(piece) | Node::Text(piece) => {
                return self.out.extend_from_slice(value.document.bytes(piece));
            }
            Node::Array(start, end) if start == end => return self.out.extend_from_slice(b"[]"),
            Node::Object(start, end) if start == end => return self.out.extend_from_slice(b"{}"),
            Node::Array(start, end) => (b'[', Rest::Items(start, end)),
            Node::Object(start, end) => (b'{', Rest::Entries(start, end)),
        };
        self.out.push(bracket);
        self.open.push(rest);
        self.newline();
    }

    fn close(&mut self, bracket: u8) {
        self.open.pop();
        self.newline();
        self.out.push(bracket);
    }
}

impl<'d, 'a> Value<'d, 'a> {
    /// Appends what `JSON.stringify(value)` prints.
    pub fn print(&self, out: &mut Vec<u8>) {
        self.write(out, None, usize::MAX);
    }

    /// Appends what `JSON.stringify(value, null, 2)` prints, each line but the first behind `depth` levels.
    ///
    /// Indentation makes this quadratic in the nesting: for values that others chose, see
    /// [`Value::print_indented_up_to`].
    pub fn print_indented(&self, out: &mut Vec<u8>, depth: usize) {
        self.write(out, Some(depth), usize::MAX);
    }

    /// As [`Value::print_indented`], but stops soon after `out` has more than `limit` bytes; whether all was printed.
    pub fn print_indented_up_to(&self, out: &mut Vec<u8>, depth: usize, limit: usize) -> bool {
        self.write(out, Some(depth), limit)
    }

    fn write(&self, out: &mut Vec<u8>, indent: Option<usize>, limit: usize) -> bool {
        let document = self.document;
        let mut printer = Printer { out, open: Vec::new(), indent };
        printer.begin(*self);
        // Whether what was printed last was an opening bracket, with its line break: no comma follows.
        let mut fresh = true;
        while let Some(rest) = printer.open.last_mut() {
            let (key, node) = match rest {
                Rest::Items(at, end) if *at < *end => {
                    *at += 1;
                    (None, document.items[*at as usize - 1])
                }
                Rest::Entries(at, end) if *at < *end => {
                    *at += 1;
                    let (key, node) = document.entries[*at as usize - 1];
                    (Some(key), node)
                }
                Rest::Items(..) => {
                    printer.close(b']');
                    fresh = false;
                    continue;
                }
                Rest::Entries(..) => {
                    printer.close(b'}');
                    fresh = false;
                    continue;
                }
            };
            if printer.out.len() > limit {
                return false;
            }
            if !fresh {
                printer.out.push(b',');
                printer.newline();
            }
            if let Some(key) = key {
                printer.out.extend_from_slice(document.bytes(key));
                printer.out.extend_from_slice(if indent.is_some() { b": " } else { b":" });
            }
            let depth = printer.open.len();
            printer.begin(Value { document, node });
            fresh = printer.open.len() > depth;
        }
        printer.out.len() <= limit
    }
}
