//! Messages on their way in: gathered into groups, parsed and verified by a pool, handed on to the writer in order.
//!
//! What is under way is bounded in bytes: whoever brings more waits.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};

use bytes::Bytes;
use parking_lot::Mutex;
use rayon::prelude::*;
use sbot_feed::{FeedId, Message, MsgId, Unverified, parse_message, verify_batch};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::Refusal;
use crate::index::print_of;
use crate::store::Shared;
use crate::writer::Command;

/// What became of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Ingested {
    /// It is in the log, and on disk within a second.
    Stored {
        /// Its record's number.
        number: u64,
        /// Its feed.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
    },
    /// It was in the log already.
    Duplicate {
        /// Its feed.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
    },
    /// Messages before it are missing: it was not stored.
    Gap {
        /// Its feed.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
        /// The feed's newest message here; 0 for none.
        tip: u64,
    },
    /// It is well signed, but doesn't belong to the branch of its feed that is here: it was not stored, and the fork is
    /// noted.
    Fork {
        /// Its feed.
        author: FeedId,
        /// Its place in the feed.
        sequence: u64,
        /// The message here that can't be in one feed with it.
        ours: MsgId,
        /// The message itself, or the one that it follows, for the same place.
        theirs: MsgId,
    },
    /// It was not stored.
    Invalid {
        /// Why.
        error: Refusal,
        /// Its feed, if it got so far.
        author: Option<FeedId>,
        /// Its place in the feed, if it got so far.
        sequence: Option<u64>,
    },
}

/// Bytes of messages under way, from being brought until being stored. Parsing and verifying takes some three times as
/// much memory for those that are being worked on.
pub(crate) const MAX_UNDER_WAY: usize = 8 << 20;
/// Most messages that are handed over at once.
pub(crate) const MAX_JOB: usize = 1024;
/// Most bytes that are handed over at once, but for the last message.
pub(crate) const MAX_JOB_BYTES: usize = 1 << 20;
/// Messages that are verified together: the more, the more of them share an author, which makes it cheaper.
const GROUP: usize = 4096;
/// Threads that gather, each with a group of its own.
pub(crate) const GATHERING: usize = 2;
/// Signatures in one batch, at most: as many as [`verify_batch`] takes at once.
const SIGNATURES: usize = 512;
/// Fewer signatures are not worth another thread.
const FEWEST: usize = 32;

/// One message, as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) json: Bytes,
    /// When it came in first, for one from an export.
    pub(crate) received: Option<f64>,
}

/// Messages that were brought together.
pub(crate) struct Job {
    pub(crate) messages: Vec<Incoming>,
    pub(crate) answer: oneshot::Sender<Vec<Ingested>>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A job whose messages have been verified.
pub(crate) struct Verified {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) answer: oneshot::Sender<Vec<Ingested>>,
    /// Held until the answer: it bounds what is under way.
    pub(crate) _permit: OwnedSemaphorePermit,
}

pub(crate) enum Verdict {
    Valid { message: Message, received: Option<f64> },
    Done(Ingested),
}

/// Where jobs come in and verified groups go out, shared by the threads that gather: while one group's last signatures
/// are checked, the next one keeps the pool busy.
pub(crate) struct Gathering {
    /// The number of the next group beside the jobs that it will be of.
    jobs: Mutex<(u64, Receiver<Job>)>,
    done: Mutex<Done>,
}

/// Groups go to the writer in the order in which they were gathered.
struct Done {
    next: u64,
    waiting: BTreeMap<u64, Vec<Verified>>,
    commands: Sender<Command>,
}

impl Gathering {
    pub(crate) fn new(jobs: Receiver<Job>, commands: Sender<Command>) -> Gathering {
        let done = Done { next: 0, waiting: BTreeMap::new(), commands };
        Gathering { jobs: Mutex::new((0, jobs)), done: Mutex::new(done) }
    }

    /// What one of the threads does. It ends when nobody can bring more.
    pub(crate) fn run(&self, shared: &Shared, pool: &rayon::ThreadPool) {
        while let Some((number, group)) = self.gather() {
            // After a panic too the groups behind have to go on. Who brought this one hears that there is no answer.
            let verified = catch_unwind(AssertUnwindSafe(|| verify(shared, pool, group))).unwrap_or_default();
            if !self.done.lock().put(number, verified) {
                return;
            }
        }
    }

    fn gather(&self) -> Option<(u64, Vec<Job>)> {
        let (next, jobs) = &mut *self.jobs.lock();
        let mut group = vec![jobs.recv().ok()?];
        let mut count = group[0].messages.len();
        while count < GROUP
            && let Ok(job) = jobs.try_recv()
        {
            count += job.messages.len();
            group.push(job);
        }
        let number = *next;
        *next += 1;
        Some((number, group))
    }
}

impl Done {
    /// Whether the writer is still there.
    fn put(&mut self, number: u64, group: Vec<Verified>) -> bool {
        self.waiting.insert(number, group);
        while let Some(group) = self.waiting.remove(&self.next) {
            self.next += 1;
            if self.commands.send(Command::Group(group)).is_err() {
                return false;
            }
        }
        true
    }
}

fn verify(shared: &Shared, pool: &rayon::ThreadPool, mut group: Vec<Job>) -> Vec<Verified> {
    let sizes: Vec<usize> = group.iter().map(|job| job.messages.len()).collect();
    let messages: Vec<Incoming> = group.iter_mut().flat_map(|job| std::mem::take(&mut job.messages)).collect();
    let mut verdicts = check(shared, pool, messages).into_iter();
    let verified = group.into_iter().zip(sizes).map(|(job, size)| Verified {
        verdicts: verdicts.by_ref().take(size).collect(),
        answer: job.answer,
        _permit: job.permit,
    });
    verified.collect()
}

enum Parsed {
    /// Its signature is to be checked.
    Open(Unverified, Option<f64>),
    Done(Ingested),
}

fn check(shared: &Shared, pool: &rayon::ThreadPool, messages: Vec<Incoming>) -> Vec<Verdict> {
    let parse = |incoming: Incoming| match parse_message(&incoming.json, shared.hmac.as_ref()) {
        Ok(unverified) if is_stored(shared, unverified.message()) => {
            let Message { author, sequence, .. } = *unverified.message();
            Parsed::Done(Ingested::Duplicate { author, sequence })
        }
        Ok(unverified) => Parsed::Open(unverified, incoming.received),
        Err(error) => Parsed::Done(Ingested::Invalid { error: error.into(), author: None, sequence: None }),
    };
    if messages.len() < FEWEST {
        let parsed = messages.into_iter().map(parse).collect();
        return check_signatures(parsed, |batches| batches.into_iter().map(verify_batch).collect());
    }
    pool.install(|| {
        let parsed = messages.into_par_iter().with_min_len(FEWEST / 2).map(parse).collect();
        check_signatures(parsed, |batches| batches.into_par_iter().map(verify_batch).collect())
    })
}

type Batches = Vec<Vec<Unverified>>;
type Results = Vec<Vec<Result<Message, sbot_feed::MessageError>>>;

fn check_signatures(parsed: Vec<Parsed>, run: impl FnOnce(Batches) -> Results) -> Vec<Verdict> {
    let mut verdicts: Vec<Option<Verdict>> = Vec::with_capacity(parsed.len());
    let mut open = Vec::with_capacity(parsed.len());
    for (at, parsed) in parsed.into_iter().enumerate() {
        verdicts.push(match parsed {
            Parsed::Done(done) => Some(Verdict::Done(done)),
            Parsed::Open(unverified, received) => {
                open.push((at, received, unverified));
                None
            }
        });
    }
    // Signatures of one author cost less in one batch.
    open.sort_by_key(|(.., unverified)| unverified.message().author);
    let batch = open.len().div_ceil(rayon::current_num_threads().max(1)).clamp(FEWEST, SIGNATURES);
    let mut places = Vec::with_capacity(open.len());
    let mut batches: Batches = Vec::new();
    for (number, (at, received, unverified)) in open.into_iter().enumerate() {
        if number % batch == 0 {
            batches.push(Vec::with_capacity(batch));
        }
        places.push((at, received));
        if let Some(last) = batches.last_mut() {
            last.push(unverified);
        }
    }
    for ((at, received), result) in places.into_iter().zip(run(batches).into_iter().flatten()) {
        verdicts[at] = Some(match result {
            Ok(message) => Verdict::Valid { message, received },
            Err(error) => {
                let (author, sequence) = match error {
                    sbot_feed::MessageError::Signature { author, sequence } => (Some(author), Some(sequence)),
                    _ => (None, None),
                };
                Verdict::Done(Ingested::Invalid { error: error.into(), author, sequence })
            }
        });
    }
    verdicts.into_iter().flatten().collect()
}

/// Whether this very message is in the log: then its signature has been checked.
fn is_stored(shared: &Shared, message: &Message) -> bool {
    let number = {
        let index = shared.index.read();
        let number = index.record_of(&message.author, message.sequence);
        number.filter(|number| index.prints.get(*number as usize) == Some(&print_of(&message.key)))
    };
    number.is_some_and(|number| matches!(shared.read_key(number), Ok(Some(key)) if key == message.key))
}
