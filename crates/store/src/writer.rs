//! The one thread that writes the log.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use sbot_feed::{FeedId, FeedTip, Message, check_next};
use tokio::sync::oneshot;

use crate::checkpoint;
use crate::core::{Core, is_known};
use crate::error::{Refusal, StoreError};
use crate::forks::Fork;
use crate::index::{MAX_RECORDS, NewRecord, kind_of};
use crate::ingest::{Batch, Checked, Ingested};
use crate::log::{Log, SEGMENT};
use crate::record::{self, Record};

/// Replicated messages are synced when so many bytes wait.
const SYNC_BYTES: u64 = 8 << 20;

/// ... or when nothing has come for so long.
const SYNC_IDLE: Duration = Duration::from_millis(500);

/// The index is saved when so many messages came since, or an eighth of all.
const CHECKPOINT_EVERY: u64 = 50_000;

/// What makes two times of arrival differ, in ms.
const TICK: f64 = 0.001;

/// Where the time comes from: ms since 1970.
pub type Clock = Arc<dyn Fn() -> f64 + Send + Sync>;

pub(crate) enum WriteJob {
    Ingest(Vec<Batch>),
    Own(Message, oneshot::Sender<Result<Record, StoreError>>),
    Sync(mpsc::SyncSender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    core: Arc<Core>,
    clock: Clock,
    synced: u64,
    checkpointed: u64,
    /// Encoded records that are not written yet, and where they go.
    buffer: Vec<u8>,
    start: u64,
    pending: Vec<Pending>,
    /// Tips of feeds as the pending records leave them.
    tips: HashMap<FeedId, FeedTip>,
    received: f64,
}

struct Pending {
    place: u64,
    received: f64,
    message: Message,
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>, clock: Clock) -> Writer {
        let (end, length, received) = {
            let index = core.index.read();
            (core.log.end(), index.len(), index.last_received)
        };
        Writer {
            core,
            clock,
            synced: end,
            checkpointed: length,
            buffer: Vec::new(),
            start: end,
            pending: Vec::new(),
            tips: HashMap::new(),
            received,
        }
    }

    pub(crate) fn run(mut self, jobs: &Receiver<WriteJob>) {
        loop {
            let job = match jobs.recv_timeout(SYNC_IDLE) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.sync_or_complain();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break self.finish(),
            };
            match job {
                WriteJob::Ingest(batches) => self.ingest(batches),
                WriteJob::Own(message, reply) => {
                    let done = self.own(message);
                    // Whoever published may have gone.
                    let _ = reply.send(done);
                }
                WriteJob::Sync(reply) => {
                    let _ = reply.send(self.sync());
                }
                WriteJob::Close(reply) => {
                    self.finish();
                    let _ = reply.send(());
                    break;
                }
            }
            self.checkpoint_if_due();
        }
    }

    fn finish(&mut self) {
        self.sync_or_complain();
        self.checkpoint();
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let end = self.core.log.end();
        if end > self.synced {
            self.core.log.sync(self.synced)?;
            self.synced = end;
        }
        Ok(())
    }

    fn sync_or_complain(&mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(%error, "replicated messages may be lost in a power cut");
        }
    }

    fn checkpoint_if_due(&mut self) {
        let length = self.core.index.read().len();
        if length - self.checkpointed >= CHECKPOINT_EVERY.max(length / 8) {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        self.sync_or_complain();
        let index = self.core.index.read();
        if index.len() == self.checkpointed {
            return;
        }
        match checkpoint::save(&self.core.checkpoint_path(), &index, self.core.log.end()) {
            Ok(()) => self.checkpointed = index.len(),
            // The next start takes longer, that is all.
            Err(error) => tracing::warn!(%error, "the index could not be saved"),
        }
    }

    /// The time at which the next message came in: later than all before.
    fn next_received(&mut self, elsewhere: Option<f64>) -> f64 {
        let now = (self.clock)();
        let time = elsewhere.filter(|time| *time <= now).unwrap_or(now);
        self.received = if time > self.received { time } else { self.received + TICK };
        self.received
    }

    fn tip(&self, feed: &FeedId) -> Option<FeedTip> {
        self.tips.get(feed).copied().or_else(|| self.core.index.read().feed(feed)?.tip)
    }

    fn ingest(&mut self, batches: Vec<Batch>) {
        for (batch, reply) in batches {
            let mut outcomes = Vec::with_capacity(batch.len());
            // Outcomes that stand only if the bytes get written.
            let mut hoped = 0;
            for checked in batch {
                let outcome = match checked {
                    Checked::Done(done) => done,
                    Checked::Valid(message, received) => match self.judge(&message) {
                        Some(outcome) => outcome,
                        None => match self.push(message, received, &mut outcomes, &mut hoped) {
                            Ok(outcome) => outcome,
                            Err(outcome) => outcome,
                        },
                    },
                };
                outcomes.push(outcome);
            }
            self.write_or_retract(&mut outcomes, &mut hoped);
            // Whoever brought them may have gone.
            let _ = reply.send(outcomes);
        }
        if self.core.log.end() - self.synced > SYNC_BYTES {
            self.sync_or_complain();
        }
    }

    /// What there is to say of a message that is not to be stored; `None` if it is the feed's next.
    fn judge(&mut self, message: &Message) -> Option<Ingested> {
        let (author, sequence) = (message.author, message.sequence);
        let tip = self.tip(&author);
        let next = tip.map_or(1, |tip| tip.sequence + 1);
        if sequence > next {
            if is_known(&self.core.index.read(), message) {
                return Some(Ingested::Duplicate { author, sequence });
            }
            return Some(Ingested::Gap { author, sequence, tip: next - 1 });
        }
        let forked = if sequence == next {
            check_next(tip.as_ref(), message).is_err()
        } else {
            let known = is_known(&self.core.index.read(), message)
                || self.pending.iter().any(|pending| pending.message.key == message.key);
            if known {
                return Some(Ingested::Duplicate { author, sequence });
            }
            true
        };
        forked.then(|| {
            let fork = Fork { author, sequence, refused: message.key };
            match self.core.forks.lock().add(fork) {
                Ok(true) => tracing::warn!(feed = %author, sequence, refused = %message.key, "a feed has forked"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, feed = %author, "a fork could not be noted"),
            }
            Ingested::Fork { author, sequence, key: message.key }
        })
    }

    /// Puts a message in the buffer; the outcome is what will be true once that is written.
    fn push(
        &mut self,
        message: Message,
        received: Option<f64>,
        outcomes: &mut [Ingested],
        hoped: &mut usize,
    ) -> Result<Ingested, Ingested> {
        let (author, sequence) = (message.author, message.sequence);
        let number = self.core.index.read().len() + self.pending.len() as u64;
        if number >= MAX_RECORDS {
            let error = Refusal::Store(StoreError::Full(number).to_string());
            return Err(Ingested::Invalid { error, author: Some(author), sequence: Some(sequence) });
        }
        let length = record::HEAD + message.value.len();
        let end = self.start + self.buffer.len() as u64;
        let place = Log::place(end, length);
        if place != end || self.pending.is_empty() {
            self.write_or_retract(outcomes, hoped);
            self.start = Log::place(self.core.log.end(), length);
            // After a failed write, the tip may no longer be what it was judged by.
            if check_next(self.tip(&author).as_ref(), &message).is_err() {
                let error = Refusal::Store("the message before it could not be stored".into());
                return Err(Ingested::Invalid { error, author: Some(author), sequence: Some(sequence) });
            }
        }
        let number = self.core.index.read().len() + self.pending.len() as u64;
        let place = self.start + self.buffer.len() as u64;
        let received = self.next_received(received);
        // Sequences are below 2³¹ (ssb-validate): they fit.
        record::write(&mut self.buffer, received, sequence as u32, &author, &message.key, &message.value);
        self.tips.insert(author, FeedTip::from(&message));
        self.pending.push(Pending { place, received, message });
        Ok(Ingested::Stored { number, author, sequence })
    }

    /// Writes what is in the buffer. If that fails, `Stored` outcomes since `hoped` are taken back.
    fn write_or_retract(&mut self, outcomes: &mut [Ingested], hoped: &mut usize) {
        if let Err(error) = self.write() {
            tracing::error!(%error, "messages could not be stored");
            for outcome in &mut outcomes[*hoped..] {
                if let Ingested::Stored { author, sequence, .. } = *outcome {
                    let error = Refusal::Store(error.to_string());
                    *outcome = Ingested::Invalid { error, author: Some(author), sequence: Some(sequence) };
                }
            }
        }
        *hoped = outcomes.len();
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.tips.clear();
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let written = self.core.log.append(self.start, &self.buffer);
        self.buffer.clear();
        if self.buffer.capacity() as u64 > SEGMENT / 16 {
            self.buffer = Vec::new();
        }
        written?;
        let mut healing = Vec::new();
        let length = {
            let mut index = self.core.index.write();
            for Pending { place, received, message } in &pending {
                let kind = kind_of(&message.value);
                let holed = index.feed(&message.author).is_some_and(|feed| feed.holed);
                index.add(
                    *place,
                    &NewRecord {
                        received: *received,
                        key: message.key,
                        author: message.author,
                        sequence: message.sequence,
                        timestamp: message.timestamp,
                        kind: &kind,
                    },
                );
                if holed {
                    healing.push(message.author);
                }
            }
            index.len()
        };
        for feed in healing {
            self.core.heal(&feed)?;
        }
        self.core.length.send_replace(length);
        Ok(())
    }

    fn own(&mut self, message: Message) -> Result<Record, StoreError> {
        let author = message.author;
        if let Some(feed) = self.core.index.read().feed(&author)
            && feed.holed
        {
            let sequence = feed.tip.map_or(1, |tip| tip.sequence + 1);
            return Err(StoreError::Damaged { author, sequence });
        }
        check_next(self.tip(&author).as_ref(), &message)?;
        let (mut outcomes, mut hoped) = ([], 0);
        let record = Record {
            number: self.core.index.read().len(),
            received: 0.0,
            key: message.key,
            author,
            sequence: message.sequence,
            value: message.value.clone(),
        };
        if let Err(Ingested::Invalid { .. }) = self.push(message, None, &mut outcomes, &mut hoped) {
            return Err(StoreError::Full(record.number));
        }
        let received = self.received;
        self.write()?;
        self.sync()?;
        Ok(Record { received, ..record })
    }
}
