//! Standard output: buffered, and flushed when there is nothing more to print for the moment.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use sbot_rpc::Body;

use super::text;

/// Where a command prints. Errors are for the caller: a closed pipe ends the command without a word.
pub(crate) struct Output {
    stream: BufWriter<Stdout>,
    terminal: bool,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { stream: BufWriter::with_capacity(64 * 1024, stdout), terminal }
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Prints text and a line break.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(line.as_bytes())?;
        self.stream.write_all(b"\n")
    }

    /// Prints JSON text on one line. On a terminal, whatever in it could steer the terminal is escaped.
    pub(crate) fn json_line(&mut self, json: &str) -> io::Result<()> {
        let line = if json.contains(['\n', '\r']) { text::one_line(json).into() } else { std::borrow::Cow::from(json) };
        if self.terminal { self.line(&text::printable_json(&line)) } else { self.line(&line) }
    }

    /// Prints JSON text laid out over several lines.
    pub(crate) fn json_indented(&mut self, json: &str) -> io::Result<()> {
        let laid_out = text::indented(json);
        if self.terminal { self.line(&text::printable_json(&laid_out)) } else { self.line(&laid_out) }
    }

    /// Prints one item of a stream: JSON on a line, binary as it is.
    pub(crate) fn item(&mut self, body: &Body) -> io::Result<()> {
        match body {
            Body::Binary(bytes) => self.bytes(bytes),
            other => self.json_line(&json_of(other)),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A body as JSON text: a text body is a JSON string.
pub(crate) fn json_of(body: &Body) -> String {
    match body {
        Body::Json(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Body::String(bytes) | Body::Binary(bytes) => {
            serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned()).to_string()
        }
    }
}
