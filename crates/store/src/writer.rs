//! The thread that owns the log's end: checks each message against its feed, appends, syncs, indexes, saves.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use sbot_feed::{FeedId, FeedTip, Message, MessageError, check_next};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::error::{Refusal, StoreError};
use crate::forks::Fork;
use crate::index::{Feed, MAX_RECORDS, NewRecord, kind_of};
use crate::ingest::{Ingested, Verdict, Verified};
use crate::log::Log;
use crate::open::index_path;
use crate::record::{self, HEAD, MAX_VALUE, Record};
use crate::store::Shared;
use crate::syncing::Syncing;
use crate::{checkpoint, clock};

/// Bytes that are written at once.
const WRITE: usize = 1 << 20;
/// Without work for so long, a checkpoint may be saved.
const IDLE: Duration = Duration::from_secs(2);
/// New records that are worth a checkpoint when idle: scanning them takes some 30 ms at the next start.
const CHECKPOINT_IDLE: u64 = 10_000;
/// New records after which a checkpoint is saved in any case.
const CHECKPOINT_BUSY: u64 = 250_000;

pub(crate) enum Command {
    Group(Vec<Verified>),
    Own(Own),
    Flush(std::sync::mpsc::SyncSender<Result<(), StoreError>>),
}

pub(crate) struct Own {
    pub(crate) message: Message,
    pub(crate) answer: oneshot::Sender<Result<Record, StoreError>>,
    /// Bounds how many wait.
    pub(crate) _permit: OwnedSemaphorePermit,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    length: watch::Sender<u64>,
    last_received: f64,
    batch: Batch,
    syncing: Syncing,
    since_checkpoint: u64,
    _lock: File,
}

/// Records that are about to be written, all in one segment.
#[derive(Default)]
struct Batch {
    start: u64,
    bytes: Vec<u8>,
    records: Vec<Pending>,
    tips: HashMap<FeedId, FeedTip>,
}

struct Pending {
    place: u64,
    received: f64,
    message: Message,
    /// Which job's which message.
    slot: (usize, usize),
}

/// What is to become of a message.
enum Decision {
    Append,
    Answer(Ingested),
    /// What is about to be written has to be written first.
    Later,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        length: watch::Sender<u64>,
        lock: File,
        scanned: u64,
        syncing: Syncing,
    ) -> Writer {
        let last_received = shared.index.read().last_received;
        Writer {
            shared,
            length,
            last_received,
            batch: Batch::default(),
            syncing,
            since_checkpoint: scanned,
            _lock: lock,
        }
    }

    /// Works until nobody can send commands any more; then everything is synced and saved.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) -> Result<(), StoreError> {
        let mut stashed = None;
        loop {
            let command = match stashed.take() {
                Some(command) => Ok(command),
                None => commands.recv_timeout(self.patience()),
            };
            match command {
                Ok(Command::Group(jobs)) => self.group(jobs),
                Ok(Command::Own(own)) => {
                    let mut owns = vec![own];
                    while stashed.is_none()
                        && let Ok(command) = commands.try_recv()
                    {
                        match command {
                            Command::Own(own) => owns.push(own),
                            other => stashed = Some(other),
                        }
                    }
                    self.own(owns);
                }
                // Whoever asked may have gone.
                Ok(Command::Flush(answer)) => drop(answer.send(self.syncing.all())),
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.upkeep();
        }
        let synced = self.syncing.all();
        if self.since_checkpoint > 0 || !index_path(&self.shared.dir).exists() {
            self.checkpoint();
        }
        self.shared.save_side_indexes();
        synced
    }

    fn patience(&self) -> Duration {
        self.syncing.rest().unwrap_or(IDLE)
    }

    fn upkeep(&mut self) {
        if let Err(error) = self.syncing.upkeep() {
            tracing::error!(%error, "messages may be lost if the power fails");
        }
        if self.since_checkpoint >= CHECKPOINT_BUSY {
            self.checkpoint();
        }
    }

    fn idle(&mut self) {
        if self.syncing.is_done() && self.since_checkpoint >= CHECKPOINT_IDLE {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        let saved = self
            .syncing
            .all()
            .and_then(|()| checkpoint::save(&index_path(&self.shared.dir), &self.shared.index, self.shared.log.end()));
        if let Err(error) = saved {
            tracing::warn!(%error, "can't save the index: the next start takes longer");
        }
        // After a failure too: trying on and on would only keep a full disk busy.
        self.since_checkpoint = 0;
    }

    /// Others' messages: appended in order, answered when they can be read.
    fn group(&mut self, jobs: Vec<Verified>) {
        let mut answers: Vec<Vec<Ingested>> = jobs.iter().map(|job| Vec::with_capacity(job.verdicts.len())).collect();
        let mut channels = Vec::with_capacity(jobs.len());
        for (number, job) in jobs.into_iter().enumerate() {
            for verdict in job.verdicts {
                let answer = match verdict {
                    Verdict::Done(answer) => answer,
                    Verdict::Valid { message, received } => {
                        let slot = (number, answers[number].len());
                        self.take(message, received, slot, &mut answers)
                    }
                };
                answers[number].push(answer);
            }
            channels.push((job.answer, job._permit));
        }
        self.commit(&mut answers);
        for ((channel, permit), answer) in channels.into_iter().zip(answers) {
            drop(permit);
            // Whoever asked may have gone.
            drop(channel.send(answer));
        }
    }

    /// Decides on a message. The answer for one that is about to be written is replaced when it is.
    fn take(
        &mut self,
        message: Message,
        received: Option<f64>,
        slot: (usize, usize),
        answers: &mut [Vec<Ingested>],
    ) -> Ingested {
        let (author, sequence) = (message.author, message.sequence);
        let decision = match self.decide(&message) {
            Decision::Later => {
                self.commit(answers);
                self.decide(&message)
            }
            decision => decision,
        };
        if let Decision::Answer(answer) = decision {
            return answer;
        }
        if let Err(error) = self.fits(&message) {
            return refused(author, sequence, error.to_string());
        }
        let end = self.end();
        let place = Log::place(end, HEAD + message.value.len());
        if place != end || self.batch.bytes.len() >= WRITE {
            self.commit(answers);
        }
        self.stage(place, message, received, slot);
        Ingested::Duplicate { author, sequence }
    }

    fn fits(&self, message: &Message) -> Result<(), StoreError> {
        let count = self.shared.index.read().len() + self.batch.records.len() as u64;
        if count >= MAX_RECORDS {
            return Err(StoreError::Full(count));
        }
        if message.value.len() > MAX_VALUE {
            return Err(MessageError::TooLong { length: message.value.len() }.into());
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        match self.batch.records.is_empty() {
            true => self.shared.log.end(),
            false => self.batch.start + self.batch.bytes.len() as u64,
        }
    }

    fn stage(&mut self, place: u64, message: Message, received: Option<f64>, slot: (usize, usize)) {
        let now = (self.shared.clock)();
        // An import brings the times of the export, as far as they follow what is here.
        let received = received.filter(|then| *then > self.last_received && *then <= now).unwrap_or(now);
        self.last_received = clock::after(self.last_received, received);
        if self.batch.records.is_empty() {
            self.batch.start = place;
        }
        let sequence = message.sequence as u32;
        record::write(
            &mut self.batch.bytes,
            self.last_received,
            sequence,
            &message.author,
            &message.key,
            &message.value,
        );
        self.batch.tips.insert(message.author, FeedTip::from(&message));
        self.batch.records.push(Pending { place, received: self.last_received, message, slot });
    }

    fn decide(&self, message: &Message) -> Decision {
        let Message { author, sequence, .. } = *message;
        let staged = self.batch.tips.get(&author).copied();
        if staged.is_some_and(|tip| sequence <= tip.sequence) {
            return Decision::Later;
        }
        let (tip, here, next, holed) = {
            let index = self.shared.index.read();
            let feed = index.feed(&author);
            let record = |sequence| feed.and_then(|feed| feed.record_of(sequence));
            let tip = staged.or(feed.and_then(|feed| feed.tip));
            (tip, record(sequence), record(sequence + 1), feed.is_some_and(Feed::is_holed))
        };
        if let Some(number) = here {
            match self.shared.read_one(number) {
                Ok(Some(here)) if here.key == message.key => {
                    return Decision::Answer(Ingested::Duplicate { author, sequence });
                }
                Ok(Some(here)) => {
                    return self.forked(message, Fork { author, sequence, ours: here.key, theirs: message.key });
                }
                // It is lost, and known to be from now on: this one takes its place, if it is the same.
                Ok(None) => return if staged.is_some() { Decision::Later } else { self.decide(message) },
                Err(error) => return Decision::Answer(refused(author, sequence, error.to_string())),
            }
        }
        match check_next(tip.as_ref(), message) {
            Ok(()) => {}
            Err(MessageError::Fork { .. }) => {
                if let (Some(tip), Some(theirs)) = (tip, message.previous) {
                    let fork = Fork { author, sequence: tip.sequence, ours: tip.key, theirs };
                    return self.forked(message, fork);
                }
                let error = MessageError::Shape("the first message of a feed, and only that, follows none").into();
                return Decision::Answer(Ingested::Invalid { error, author: Some(author), sequence: Some(sequence) });
            }
            // What is about to be written may close a hole: then the tip is further on.
            Err(_) if holed && staged.is_some() => return Decision::Later,
            Err(_) => {
                let tip = tip.map_or(0, |tip| tip.sequence);
                return Decision::Answer(Ingested::Gap { author, sequence, tip });
            }
        }
        // One that fills a hole has to be the one on which the next was signed.
        if let Some(Ok(Some(next))) = next.map(|number| self.shared.read_one(number))
            && let Ok(next) = Message::trusted(next.key, next.value)
            && let Some(ours) = next.previous
            && ours != message.key
        {
            return self.forked(message, Fork { author, sequence, ours, theirs: message.key });
        }
        Decision::Append
    }

    fn forked(&self, message: &Message, fork: Fork) -> Decision {
        self.shared.forks.lock().note(fork);
        let Fork { author, ours, theirs, .. } = fork;
        Decision::Answer(Ingested::Fork { author, sequence: message.sequence, ours, theirs })
    }

    /// Writes what is staged and makes it readable, or answers why that can't be.
    fn commit(&mut self, answers: &mut [Vec<Ingested>]) {
        if self.batch.records.is_empty() {
            return;
        }
        let written = self.write();
        if let Err(error) = &written {
            tracing::error!(%error, messages = self.batch.records.len(), "messages can't be stored");
        }
        let batch = std::mem::take(&mut self.batch);
        let first = self.shared.index.read().len();
        for (number, pending) in (first..).zip(&batch.records) {
            let (author, sequence) = (pending.message.author, pending.message.sequence);
            let answer = match &written {
                Ok(()) => Ingested::Stored { number, author, sequence },
                Err(error) => refused(author, sequence, error.to_string()),
            };
            let (job, message) = pending.slot;
            // The last message's answer isn't in its list while it is still being decided on: then it isn't staged either.
            if let Some(slot) = answers.get_mut(job).and_then(|list| list.get_mut(message)) {
                *slot = answer;
            }
        }
        if written.is_ok() {
            self.publish(&batch);
        }
        self.recycle(batch);
    }

    /// Keeps the buffers for the next batch.
    fn recycle(&mut self, mut batch: Batch) {
        batch.bytes.clear();
        batch.records.clear();
        batch.tips.clear();
        self.batch = batch;
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let (start, bytes) = (self.batch.start, self.batch.bytes.len() as u64);
        self.shared.log.append(start, &self.batch.bytes)?;
        self.syncing.wrote(start, bytes);
        Ok(())
    }

    fn publish(&mut self, batch: &Batch) {
        let kinds: Vec<_> = batch.records.iter().map(|pending| kind_of(&pending.message.value)).collect();
        let mut holed = Vec::new();
        let length = {
            let mut index = self.shared.index.write();
            for (pending, kind) in batch.records.iter().zip(&kinds) {
                let Message { key, author, sequence, timestamp, .. } = pending.message;
                index.add(
                    pending.place,
                    &NewRecord { received: pending.received, key, author, sequence, timestamp, kind },
                );
            }
            for author in batch.tips.keys() {
                if index.feed(author).is_some_and(Feed::is_holed) {
                    holed.push(*author);
                }
            }
            index.len()
        };
        for author in holed {
            if let Err(error) = self.shared.settle(&author) {
                tracing::error!(%author, %error, "can't read on where a damaged message was");
            }
        }
        self.since_checkpoint += batch.records.len() as u64;
        self.length.send_replace(length);
    }

    /// Our own messages: on disk before they are answered.
    fn own(&mut self, owns: Vec<Own>) {
        let mut staged = Vec::with_capacity(owns.len());
        for own in owns {
            if let Err(error) = self.check_own(&own.message) {
                // Whoever published may have gone.
                drop(own.answer.send(Err(error)));
                continue;
            }
            let place = Log::place(self.end(), HEAD + own.message.value.len());
            if place != self.end() || self.batch.bytes.len() >= WRITE {
                self.commit_own(&mut staged);
            }
            self.stage(place, own.message, None, (0, 0));
            staged.push((own.answer, own._permit));
        }
        self.commit_own(&mut staged);
    }

    fn check_own(&self, message: &Message) -> Result<(), StoreError> {
        let tip = {
            let index = self.shared.index.read();
            let feed = index.feed(&message.author);
            if let Some(feed) = feed.filter(|feed| feed.is_holed()) {
                return Err(StoreError::Damaged { author: feed.id, sequence: feed.tip_sequence() + 1 });
            }
            feed.and_then(|feed| feed.tip)
        };
        let tip = self.batch.tips.get(&message.author).copied().or(tip);
        check_next(tip.as_ref(), message)?;
        self.fits(message)
    }

    fn commit_own(&mut self, staged: &mut Vec<(oneshot::Sender<Result<Record, StoreError>>, OwnedSemaphorePermit)>) {
        if self.batch.records.is_empty() {
            return;
        }
        let start = self.batch.start;
        let written = self.write().and_then(|()| {
            self.syncing.all().inspect_err(|_| {
                // Not known to be on disk, so it is not to be seen. If it can't be cut, the next record is written over it.
                let _ = self.shared.log.cut(start);
            })
        });
        let batch = std::mem::take(&mut self.batch);
        let first = self.shared.index.read().len();
        if written.is_ok() {
            self.publish(&batch);
        }
        for (at, ((answer, _), pending)) in staged.drain(..).zip(&batch.records).enumerate() {
            let result = match &written {
                Ok(()) => Ok(Record {
                    number: first + at as u64,
                    received: pending.received,
                    key: pending.message.key,
                    author: pending.message.author,
                    sequence: pending.message.sequence,
                    value: pending.message.value.clone(),
                }),
                Err(error) => Err(again(error)),
            };
            // Whoever published may have gone: the message stays.
            drop(answer.send(result));
        }
        self.recycle(batch);
    }
}

fn refused(author: FeedId, sequence: u64, why: String) -> Ingested {
    Ingested::Invalid { error: Refusal::Store(why), author: Some(author), sequence: Some(sequence) }
}

/// The same error for another who waits.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Io { action, path, source } => {
            let source = match source.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(source.kind(), source.to_string()),
            };
            StoreError::Io { action, path: path.clone(), source }
        }
        _ => StoreError::Closed,
    }
}
