//! Messages from outside: read, hashed and verified, many at a time, off the async threads.
//!
//! One thread takes the batches in the order in which they were handed in, lets a pool check them, and hands them to the
//! writer: while one batch is written, the next is being verified.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use bytes::Bytes;
use rayon::prelude::*;
use sbot_feed::{FeedId, HmacKey, Message, MessageError, MsgId, Unverified, parse_message, verify_batch};
use tokio::sync::{mpsc, oneshot};

use crate::core::{Core, is_known};
use crate::error::Refusal;
use crate::writer::WriteJob;

/// Batches that wait to be verified; whoever brings more waits.
pub(crate) const QUEUE: usize = 8;

/// Most messages that are verified together.
const TOGETHER: usize = 2048;

/// Messages parsed by one thread at a time.
const PARSE: usize = 32;

/// Signatures verified by one thread at a time.
const VERIFY: usize = 256;

/// What became of one message.
#[derive(Debug, Clone)]
pub enum Ingested {
    /// It is in the log.
    Stored {
        /// Its record.
        number: u64,
        /// Whose it is.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
    },
    /// It was there already.
    Duplicate {
        /// Whose it is.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
    },
    /// A message before it is missing. Not stored.
    Gap {
        /// Whose it is.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
        /// The newest message of the feed that we have; 0 for none.
        tip: u64,
    },
    /// Signed by the author, and yet another message than the one we have in its place, or on top of another one. Not
    /// stored, but remembered in [`crate::Store::forks`].
    Fork {
        /// Whose it is.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
        /// Its id.
        key: MsgId,
    },
    /// It breaks a rule, its signature is wrong, or the disk fails.
    Invalid {
        /// What is wrong.
        error: Refusal,
        /// Who it says has signed it, if that can be read.
        author: Option<FeedId>,
        /// Its place in the feed, if that can be read.
        sequence: Option<u64>,
    },
}

pub(crate) enum IngestJob {
    Batch(Vec<Bytes>, oneshot::Sender<Vec<Ingested>>),
    Close(oneshot::Sender<()>),
}

/// A message on its way to the writer.
pub(crate) enum Checked {
    /// Verified, with the time at which it came in elsewhere.
    Valid(Message, Option<f64>),
    /// Nothing more to do.
    Done(Ingested),
}

pub(crate) type Batch = (Vec<Checked>, oneshot::Sender<Vec<Ingested>>);

enum Parsed {
    Unverified(Unverified, Option<f64>),
    Done(Ingested),
}

/// The verifying thread, until the store is closed.
pub(crate) fn run(
    core: &Core,
    hmac: Option<&HmacKey>,
    pool: &rayon::ThreadPool,
    mut jobs: mpsc::Receiver<IngestJob>,
    writer: &SyncSender<WriteJob>,
) {
    while let Some(job) = jobs.blocking_recv() {
        let mut batches = Vec::new();
        let mut count = 0;
        let mut close = None;
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                IngestJob::Batch(messages, reply) => {
                    count += messages.len();
                    batches.push((messages, reply));
                }
                IngestJob::Close(reply) => {
                    close = Some(reply);
                    break;
                }
            }
            if count < TOGETHER {
                next = jobs.try_recv().ok();
            }
        }
        let checked = pool.install(|| check(core, hmac, batches));
        if writer.send(WriteJob::Ingest(checked)).is_err() {
            return;
        }
        if let Some(reply) = close {
            // If the writer is gone, dropping the reply tells so.
            let _ = writer.send(WriteJob::Close(reply));
            return;
        }
    }
}

fn check(
    core: &Core,
    hmac: Option<&HmacKey>,
    batches: Vec<(Vec<Bytes>, oneshot::Sender<Vec<Ingested>>)>,
) -> Vec<Batch> {
    let mut lengths = Vec::with_capacity(batches.len());
    let mut replies = Vec::with_capacity(batches.len());
    let mut texts = Vec::new();
    for (messages, reply) in batches {
        lengths.push(messages.len());
        replies.push(reply);
        texts.extend(messages);
    }
    let parsed: Vec<Parsed> = texts.into_par_iter().with_min_len(PARSE).map(|text| parse(core, hmac, &text)).collect();

    // Signatures of one author next to each other: that is what makes a batch cheap.
    let mut checked: Vec<Option<Checked>> = Vec::with_capacity(parsed.len());
    let mut unverified: Vec<(usize, Unverified, Option<f64>)> = Vec::with_capacity(parsed.len());
    for (at, parsed) in parsed.into_iter().enumerate() {
        checked.push(match parsed {
            Parsed::Done(done) => Some(Checked::Done(done)),
            Parsed::Unverified(message, received) => {
                unverified.push((at, message, received));
                None
            }
        });
    }
    unverified.sort_by_key(|(_, message, _)| message.message().author);
    let parts = unverified.len().div_ceil(rayon::current_num_threads()).clamp(1, VERIFY);
    let mut chunks: Vec<Vec<_>> = Vec::new();
    let mut unverified = unverified.into_iter().peekable();
    while unverified.peek().is_some() {
        chunks.push(unverified.by_ref().take(parts).collect());
    }
    let verified: Vec<Vec<(usize, Checked)>> = chunks.into_par_iter().map(verify).collect();
    for (at, message) in verified.into_iter().flatten() {
        checked[at] = Some(message);
    }
    let mut checked = checked.into_iter().flatten();
    lengths.into_iter().zip(replies).map(|(length, reply)| (checked.by_ref().take(length).collect(), reply)).collect()
}

fn parse(core: &Core, hmac: Option<&HmacKey>, text: &Bytes) -> Parsed {
    match parse_message(text, hmac) {
        Ok(unverified) => {
            let message = unverified.message();
            if is_known(&core.index.read(), message) {
                return Parsed::Done(Ingested::Duplicate { author: message.author, sequence: message.sequence });
            }
            Parsed::Unverified(unverified, received_elsewhere(text))
        }
        Err(error) => Parsed::Done(invalid(error, text)),
    }
}

fn invalid(error: MessageError, text: &[u8]) -> Ingested {
    let (author, sequence) = claims(text);
    Ingested::Invalid { error: error.into(), author, sequence }
}

/// Whose message a text says it is, and which one: so that the feed's exchange can be stopped.
fn claims(text: &[u8]) -> (Option<FeedId>, Option<u64>) {
    let Ok(document) = sbot_feed::json::parse(&text[..text.len().min(sbot_feed::MAX_INPUT)]) else {
        return (None, None);
    };
    let root = document.root();
    let root = root.get("value").unwrap_or(root);
    let author = root.get("author").and_then(|author| FeedId::from_ascii(author.escaped()?).ok());
    let sequence = root.get("sequence").and_then(|sequence| sequence.number());
    (author, sequence.filter(|sequence| *sequence >= 0.0).map(|sequence| sequence as u64))
}

fn verify(part: Vec<(usize, Unverified, Option<f64>)>) -> Vec<(usize, Checked)> {
    let mut places = Vec::with_capacity(part.len());
    let mut messages = Vec::with_capacity(part.len());
    for (at, message, received) in part {
        places.push((at, received, message.message().author, message.message().sequence));
        messages.push(message);
    }
    places
        .into_iter()
        .zip(verify_batch(messages))
        .map(|((at, received, author, sequence), result)| match result {
            Ok(message) => (at, Checked::Valid(message, received)),
            Err(error) => {
                let (author, sequence) = (Some(author), Some(sequence));
                (at, Checked::Done(Ingested::Invalid { error: error.into(), author, sequence }))
            }
        })
        .collect()
}

/// The `timestamp` of `{key, value, timestamp}`, as export writes it: the last key.
fn received_elsewhere(text: &[u8]) -> Option<f64> {
    const NAME: &[u8] = b",\"timestamp\":";
    let text = text.trim_ascii_end();
    if !text.starts_with(b"{\"key\":") {
        return None;
    }
    let tail = &text[text.len().saturating_sub(60)..];
    let at = tail.windows(NAME.len()).rposition(|window| window == NAME)?;
    std::str::from_utf8(tail[at + NAME.len()..].strip_suffix(b"}")?).ok()?.trim().parse().ok()
}

/// A pool as wide as the machine.
pub(crate) fn pool() -> Result<Arc<rayon::ThreadPool>, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().thread_name(|at| format!("sbot-verify-{at}")).build().map(Arc::new)
}
