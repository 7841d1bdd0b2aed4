//! Import and export: a log as lines of JSON.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::Bytes;
use sbot_feed::{MAX_INPUT, json, write_key_value_timestamp};
use tokio::sync::oneshot;

use crate::error::{Refusal, StoreError};
use crate::ingest::{Incoming, Ingested, MAX_JOB};
use crate::read::Direction;
use crate::store::Store;

/// Bytes of lines that are read before they are handed over.
const BLOCK: usize = 512 << 10;
/// Longest line: a message, and what may stand around it.
const MAX_LINE: usize = MAX_INPUT + 4096;
/// Refused lines that are named one by one.
const MAX_NAMED: usize = 100;
/// Hand-overs whose answers are waited for while more is read.
const AHEAD: usize = 8;
/// Records that are exported at once.
const CHUNK: usize = 1024;

/// How far an import or an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransferProgress {
    /// Bytes read or written.
    pub bytes: u64,
    /// Messages imported or exported; those that were here already and those that were refused count too.
    pub messages: u64,
}

/// What became of an import.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImportSummary {
    /// Messages that are new in the log.
    pub stored: u64,
    /// Messages that were there already.
    pub duplicates: u64,
    /// Lines that were not taken.
    pub refused: u64,
    /// The first hundred of them: line number, from 1, and why.
    pub named: Vec<(u64, String)>,
    /// What stopped the import before its end: the store could not take a message, on a full disk for one. That message
    /// and those behind it count nowhere; importing the same input again goes on with them.
    pub stopped: Option<String>,
}

impl ImportSummary {
    fn refuse(&mut self, line: u64, why: String) {
        self.refused += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push((line, why));
        }
    }

    fn note(&mut self, line: u64, outcome: Ingested) {
        if let Ingested::Invalid { error: Refusal::Store(why), .. } = &outcome {
            self.stopped.get_or_insert_with(|| why.clone());
        }
        match outcome {
            Ingested::Stored { .. } => self.stored += 1,
            Ingested::Duplicate { .. } => self.duplicates += 1,
            // Neither they nor those behind them are at fault.
            _ if self.stopped.is_some() => {}
            Ingested::Gap { author, sequence, tip } => {
                self.refuse(
                    line,
                    format!("message {sequence} of {author} can't follow message {tip}: those between are missing"),
                );
            }
            Ingested::Fork { author, sequence, .. } => {
                self.refuse(line, format!("message {sequence} of {author} is of another branch: the feed has forked"));
            }
            Ingested::Invalid { error, .. } => self.refuse(line, error.to_string()),
        }
    }
}

/// The input in blocks of whole lines.
struct Blocks<R> {
    input: R,
    /// The beginning of a line that goes on in the next block.
    rest: Vec<u8>,
    done: bool,
    /// Within a line that is too long and passed over.
    skipping: bool,
}

enum Block {
    /// Whole lines.
    Lines(Bytes),
    /// A line longer than any message.
    TooLong,
}

impl<R: Read> Blocks<R> {
    fn next(&mut self) -> std::io::Result<Option<Block>> {
        loop {
            if !self.done {
                self.rest.reserve(BLOCK);
                let read = self.input.by_ref().take(BLOCK as u64).read_to_end(&mut self.rest)?;
                self.done = read == 0;
            }
            let last = memchr::memrchr(b'\n', &self.rest).map(|at| at + 1);
            if self.skipping {
                match memchr::memchr(b'\n', &self.rest) {
                    Some(end) => {
                        self.rest.drain(..end);
                        self.skipping = false;
                    }
                    None if self.done => return Ok(None),
                    None => self.rest.clear(),
                }
                continue;
            }
            if self.done && last.is_none() {
                let rest = std::mem::take(&mut self.rest);
                return Ok((!rest.is_empty()).then(|| Block::Lines(rest.into())));
            }
            if let Some(end) = last {
                let rest = self.rest.split_off(end);
                return Ok(Some(Block::Lines(std::mem::replace(&mut self.rest, rest).into())));
            }
            if self.rest.len() > MAX_LINE {
                self.rest.clear();
                self.skipping = true;
                return Ok(Some(Block::TooLong));
            }
        }
    }
}

struct Import<'s> {
    store: &'s Store,
    summary: ImportSummary,
    waiting: VecDeque<(Vec<u64>, oneshot::Receiver<Vec<Ingested>>)>,
    messages: u64,
}

impl Import<'_> {
    fn hand_over(&mut self, lines: Vec<u64>, messages: Vec<Incoming>) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        self.waiting.push_back((lines, block_on(self.store.submit(messages))?));
        self.collect(AHEAD)
    }

    /// Notes answers until no more than `left` are waited for.
    fn collect(&mut self, left: usize) -> Result<(), StoreError> {
        while self.waiting.len() > left {
            let Some((lines, answer)) = self.waiting.pop_front() else { break };
            let outcomes = block_on(answer).map_err(|_| StoreError::Closed)?;
            self.messages += lines.len() as u64;
            for (line, outcome) in lines.into_iter().zip(outcomes) {
                self.summary.note(line, outcome);
            }
        }
        Ok(())
    }
}

pub(crate) fn import(
    store: &Store,
    input: impl Read,
    progress: &mut dyn FnMut(TransferProgress),
) -> Result<ImportSummary, StoreError> {
    let mut blocks = Blocks { input, rest: Vec::new(), done: false, skipping: false };
    let mut import = Import { store, summary: ImportSummary::default(), waiting: VecDeque::new(), messages: 0 };
    let (mut line, mut bytes) = (0, 0);
    let cant_read = |error| StoreError::io("can't read", Path::new("the import"), error);
    while let Some(block) = blocks.next().map_err(cant_read)? {
        let lines = match block {
            Block::Lines(lines) => lines,
            Block::TooLong => {
                line += 1;
                import.summary.refuse(line, format!("the line is longer than any message: over {MAX_LINE} bytes"));
                // What is left of the line counts as the beginning of the next block, empty and without a number.
                line -= 1;
                continue;
            }
        };
        bytes += lines.len() as u64;
        let (mut numbers, mut messages) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < lines.len() {
            let end = memchr::memchr(b'\n', &lines[start..]).map_or(lines.len(), |at| start + at);
            line += 1;
            if !lines[start..end].trim_ascii().is_empty() {
                let json = lines.slice(start..end);
                let received = received(&json);
                messages.push(Incoming { json, received });
                numbers.push(line);
            }
            start = end + 1;
            if messages.len() == MAX_JOB {
                import.hand_over(std::mem::take(&mut numbers), std::mem::take(&mut messages))?;
            }
        }
        import.hand_over(numbers, messages)?;
        progress(TransferProgress { bytes, messages: import.messages });
        if import.summary.stopped.is_some() {
            break;
        }
    }
    import.collect(0)?;
    progress(TransferProgress { bytes, messages: import.messages });
    store.flush()?;
    Ok(import.summary)
}

/// The time of receipt in `{key, value, timestamp}`; `None` for a bare value.
fn received(line: &[u8]) -> Option<f64> {
    const NAME: &[u8] = b"},\"timestamp\":";
    let line = line.trim_ascii();
    // As exports are written. A bare value ends with its signature.
    if line.starts_with(b"{\"key\":\"") {
        let tail = &line[line.len().saturating_sub(64)..];
        let number = memchr::memmem::rfind(tail, NAME).and_then(|at| tail[at + NAME.len()..].strip_suffix(b"}"));
        if let Some(number) = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok()) {
            return Some(number);
        }
    }
    // Any other order of keys.
    if line.ends_with(b".sig.ed25519\"}") {
        return None;
    }
    let document = json::parse(line).ok()?;
    document.root().get("value")?;
    document.root().get("timestamp")?.number()
}

pub(crate) fn export(
    store: &Store,
    out: impl Write,
    progress: &mut dyn FnMut(TransferProgress),
) -> Result<TransferProgress, StoreError> {
    let cant_write = |error| StoreError::io("can't write", Path::new("the export"), error);
    let mut out = BufWriter::with_capacity(BLOCK, out);
    let mut done = TransferProgress::default();
    let mut line = Vec::new();
    let mut from = 0;
    loop {
        let records = store.read_log(from, CHUNK, Direction::Forward)?;
        let Some(last) = records.last() else { break };
        from = last.number + 1;
        for record in &records {
            line.clear();
            write_key_value_timestamp(&mut line, &record.key, &record.value, record.received);
            line.push(b'\n');
            out.write_all(&line).map_err(cant_write)?;
            done.bytes += line.len() as u64;
        }
        done.messages += records.len() as u64;
        progress(done);
    }
    out.flush().map_err(cant_write)?;
    Ok(done)
}

/// Waits for a future on a thread of no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_receipt_are_found_in_exports_and_not_in_values() {
        assert_eq!(received(br#"{"key":"%x","value":{"timestamp":5},"timestamp":1500.25}"#), Some(1500.25));
        assert_eq!(received(br#" {"timestamp":7, "value":{"timestamp":5},"key":"%x"} "#), Some(7.0));
        assert_eq!(received(br#"{"timestamp":5,"signature":"x.sig.ed25519"}"#), None);
        assert_eq!(received(br#"{"timestamp":5,"content":{}}"#), None);
        assert_eq!(received(b"garbage"), None);
    }

    #[test]
    fn blocks_hold_whole_lines_however_they_are_cut() {
        let mut text = Vec::new();
        for number in 0..5000 {
            text.extend_from_slice(format!("{number}{}\n", "x".repeat(number % 700)).as_bytes());
        }
        text.extend(std::iter::repeat_n(b'y', 4 * BLOCK));
        text.extend_from_slice(b"\nend");
        let mut blocks = Blocks { input: &text[..], rest: Vec::new(), done: false, skipping: false };
        let (mut lines, mut too_long) = (0, 0);
        while let Some(block) = blocks.next().unwrap() {
            match block {
                Block::Lines(bytes) => {
                    lines += bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count()
                }
                Block::TooLong => too_long += 1,
            }
        }
        assert_eq!((lines, too_long), (5001, 1));
    }
}
