//! The message log, as everybody else sees it.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use sbot_feed::{FeedId, FeedTip, HmacKey, Message, MsgId};
use tokio::sync::{oneshot, watch};

use crate::checkpoint;
use crate::core::{Core, tip_of};
use crate::error::{Refusal, StoreError};
use crate::forks::{Fork, Forks};
use crate::index::{HOLE, NewRecord, kind_of};
use crate::ingest::{self, IngestJob, Ingested};
use crate::log::Log;
use crate::record::Record;
use crate::writer::{Clock, WriteJob, Writer};

/// Jobs that wait for the writer; whoever brings more waits.
const WRITE_QUEUE: usize = 4;

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The key under which this network's messages are signed too (`caps.sign`).
    pub hmac: Option<HmacKey>,
    /// What time it is, in ms since 1970.
    pub clock: Clock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let now =
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_micros() as f64 / 1000.0);
        StoreOptions { hmac: None, clock: Arc::new(now) }
    }
}

/// How far opening is, in bytes of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Read so far.
    pub done: u64,
    /// To be read.
    pub total: u64,
}

/// In which order records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The oldest first.
    Forward,
    /// The newest first.
    Backward,
}

/// The log of one node. Clones are handles to the same log; it is closed with [`Store::close`], or when the last is gone.
///
/// Reading blocks on the disk: from async code, call it on a thread that may block.
#[derive(Clone)]
pub struct Store(Arc<Handles>);

struct Handles {
    core: Arc<Core>,
    ingest: tokio::sync::mpsc::Sender<IngestJob>,
    writer: mpsc::SyncSender<WriteJob>,
}

impl Store {
    /// Opens the log in `dir`, or makes one. What a crash left half-written at its end is cut off; what is damaged within
    /// is told, skipped, and fetched again from peers.
    ///
    /// `progress` hears how far the index is caught up.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::Io`].
    pub fn open(dir: &Path, options: StoreOptions, progress: &mut dyn FnMut(Progress)) -> Result<Store, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::io("can't make", dir, error))?;
        let lock = take_lock(dir)?;
        let log = Log::open(dir)?;
        let core = Core {
            dir: dir.to_owned(),
            log,
            index: RwLock::default(),
            forks: Mutex::new(Forks::load(&dir.join("forks"))),
            length: watch::Sender::new(0),
            lost: Mutex::default(),
            _lock: lock,
        };
        catch_up(&core, progress)?;
        core.length.send_replace(core.index.read().len());
        let core = Arc::new(core);

        let pool = ingest::pool()
            .map_err(|error| StoreError::io("can't start threads for", dir, std::io::Error::other(error)))?;
        let (writer, writes) = mpsc::sync_channel(WRITE_QUEUE);
        let (ingest, jobs) = tokio::sync::mpsc::channel(ingest::QUEUE);
        let task = Writer::new(Arc::clone(&core), Arc::clone(&options.clock));
        let spawned = thread::Builder::new().name("sbot-log".into()).spawn(move || task.run(&writes));
        spawned.map_err(|error| StoreError::io("can't start a thread for", dir, error))?;
        let (shared, to_writer) = (Arc::clone(&core), writer.clone());
        let spawned = thread::Builder::new()
            .name("sbot-ingest".into())
            .spawn(move || ingest::run(&shared, options.hmac.as_ref(), &pool, jobs, &to_writer));
        spawned.map_err(|error| StoreError::io("can't start a thread for", dir, error))?;
        Ok(Store(Arc::new(Handles { core, ingest, writer })))
    }

    fn core(&self) -> &Core {
        &self.0.core
    }

    /// Takes in messages from outside, each a JSON value or `{key, value, timestamp}`: reads, verifies and stores them,
    /// and tells what became of each, in order. Messages of a feed must come in its order.
    ///
    /// Waits while too much is under way. What was handed in earlier is stored earlier. Stored means: written, and synced
    /// with what follows within a second.
    pub async fn ingest(&self, messages: Vec<Bytes>) -> Vec<Ingested> {
        let count = messages.len();
        let (reply, outcomes) = oneshot::channel();
        // If the thread is gone, the reply is too.
        let _ = self.0.ingest.send(IngestJob::Batch(messages, reply)).await;
        outcomes.await.unwrap_or_else(|_| {
            let error = Refusal::Store(StoreError::Closed.to_string());
            vec![Ingested::Invalid { error, author: None, sequence: None }; count]
        })
    }

    /// Stores a message that we have signed; when it resolves, the message is on disk.
    ///
    /// # Errors
    /// [`StoreError::Message`] if it doesn't follow the feed's last one; [`StoreError::Damaged`]; [`StoreError::Io`], on
    /// a full disk for one: nothing of it is kept.
    pub async fn append_own(&self, message: Message) -> Result<Record, StoreError> {
        let (reply, done) = oneshot::channel();
        let writer = self.0.writer.clone();
        // The queue may be full of batches: that wait must not hold an async thread.
        let sent = tokio::task::spawn_blocking(move || writer.send(WriteJob::Own(message, reply)).is_ok());
        match sent.await {
            Ok(true) => done.await.unwrap_or(Err(StoreError::Closed)),
            _ => Err(StoreError::Closed),
        }
    }

    /// How many messages there are.
    pub fn len(&self) -> u64 {
        self.core().index.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the log on disk.
    pub fn bytes(&self) -> u64 {
        self.core().log.bytes()
    }

    /// How many messages there are, now and whenever some come: wait for a change, then read from where you were.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.core().length.subscribe()
    }

    /// The newest message of a feed up to which none is missing.
    pub fn tip(&self, feed: &FeedId) -> Option<FeedTip> {
        self.core().index.read().feed(feed)?.tip
    }

    /// Every feed with a message, and its newest sequence; in the order in which the feeds came.
    pub fn clock(&self) -> Vec<(FeedId, u64)> {
        let index = self.core().index.read();
        index.feeds.iter().filter_map(|feed| Some((feed.id, feed.tip?.sequence))).collect()
    }

    /// Every feed with a message, in the order in which they came.
    pub fn feeds(&self) -> Vec<FeedId> {
        self.clock().into_iter().map(|(feed, _)| feed).collect()
    }

    /// Feeds that have forked.
    pub fn forks(&self) -> Vec<Fork> {
        self.core().forks.lock().list().to_vec()
    }

    /// The message with this id.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get(&self, key: &MsgId) -> Result<Option<Record>, StoreError> {
        let candidates = self.core().index.read().candidates(key);
        let records = self.core().read(candidates.into_iter())?;
        Ok(records.into_iter().find(|record| record.key == *key))
    }

    /// A feed's message.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get_at(&self, feed: &FeedId, sequence: u64) -> Result<Option<Record>, StoreError> {
        let number = self.core().index.read().record_of(feed, sequence);
        Ok(self.core().read(number.into_iter())?.pop())
    }

    /// The record with this number; `None` if there is none, or it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn record(&self, number: u64) -> Result<Option<Record>, StoreError> {
        Ok(self.core().read(u32::try_from(number).ok().into_iter())?.pop())
    }

    /// Records with these numbers, in this order. Numbers that don't exist and damaged records are left out.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn records(&self, numbers: &[u32]) -> Result<Vec<Record>, StoreError> {
        self.core().read(numbers.iter().copied())
    }

    /// At most `max` messages of a feed, from sequence `from` on, none missing between them.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_feed(&self, feed: &FeedId, from: u64, max: usize) -> Result<Vec<Record>, StoreError> {
        let numbers: Vec<u32> = {
            let index = self.core().index.read();
            let Some(feed) = index.feed(feed) else { return Ok(Vec::new()) };
            let start = usize::try_from(from.max(1) - 1).unwrap_or(usize::MAX);
            let rest = feed.records.get(start..).unwrap_or_default();
            rest.iter().copied().take(max).take_while(|number| *number != HOLE).collect()
        };
        let mut records = self.core().read(numbers.into_iter())?;
        let mut next = from.max(1);
        let whole = records.iter().take_while(|record| {
            let fits = record.sequence == next;
            next += 1;
            fits
        });
        let whole = whole.count();
        records.truncate(whole);
        Ok(records)
    }

    /// At most `max` records from number `from` on, onwards or back. Damaged ones are left out; there are none in the
    /// answer only when there are no more.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_log(&self, from: u64, max: usize, direction: Direction) -> Result<Vec<Record>, StoreError> {
        let length = self.len();
        let max = max.max(1) as u64;
        let mut from = from;
        loop {
            let (first, end) = match direction {
                Direction::Forward => (from.min(length), (from.saturating_add(max)).min(length)),
                Direction::Backward => {
                    let end = from.saturating_add(1).min(length);
                    (end.saturating_sub(max), end)
                }
            };
            let mut records = self.core().read((first as u32)..(end as u32))?;
            if !records.is_empty() || first == end || (direction == Direction::Backward && first == 0) {
                if direction == Direction::Backward {
                    records.reverse();
                }
                return Ok(records);
            }
            from = if direction == Direction::Forward { end } else { first - 1 };
        }
    }

    /// Numbers of all records whose content is of this type, ascending; `""` for private ones.
    pub fn by_type(&self, kind: &str) -> Vec<u32> {
        self.core().index.read().types.get(kind).cloned().unwrap_or_default()
    }

    /// Makes everything stored so far survive a power cut.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Closed`].
    pub fn flush(&self) -> Result<(), StoreError> {
        let (reply, done) = mpsc::sync_channel(1);
        self.0.writer.send(WriteJob::Sync(reply)).map_err(|_| StoreError::Closed)?;
        done.recv().map_err(|_| StoreError::Closed)?
    }

    /// Finishes what is under way, syncs, saves the index and lets the directory go. Other handles can still read.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if it was closed before.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        self.0.ingest.send(IngestJob::Close(reply)).await.map_err(|_| StoreError::Closed)?;
        done.await.map_err(|_| StoreError::Closed)?;
        // Freed here, and not when the last reader goes: another process may open the directory now.
        let _ = self.core()._lock.unlock();
        Ok(())
    }
}

fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(|error| StoreError::io("can't open", &path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::io("can't lock", &path, error)),
    }
}

/// How often progress is told, in bytes.
const TELL: u64 = 4 << 20;

fn catch_up(core: &Core, progress: &mut dyn FnMut(Progress)) -> Result<(), StoreError> {
    let mut index = core.index.write();
    let mut from = 0;
    if let Some((saved, end)) = checkpoint::load(&core.checkpoint_path()) {
        // A checkpoint of a longer log is of another log.
        if end <= core.log.end() {
            *index = saved;
            from = end;
        }
    }
    let total = core.log.end().saturating_sub(from);
    let mut told = 0;
    let mut cut = None;
    core.log.scan(
        from,
        |place, record| {
            let done = place - from;
            if done >= told + TELL {
                told = done;
                progress(Progress { done, total });
            }
            let kind = kind_of(&record.value);
            index.add(
                place,
                &NewRecord {
                    received: record.received,
                    key: record.key,
                    author: record.author,
                    sequence: record.sequence,
                    timestamp: tip_of(record).timestamp,
                    kind: &kind,
                },
            );
        },
        |start, end, torn| {
            if torn {
                cut = Some(start);
                tracing::warn!(place = start, bytes = end - start, "the log's torn end is cut off");
            } else {
                tracing::error!(
                    place = start,
                    bytes = end - start,
                    "the log is damaged here: what was lost will be fetched again from peers"
                );
            }
        },
    )?;
    let holed: Vec<FeedId> = index.feeds.iter().filter(|feed| feed.holed).map(|feed| feed.id).collect();
    drop(index);
    if let Some(place) = cut {
        core.log.cut(place)?;
    }
    for feed in holed {
        core.heal(&feed)?;
    }
    Ok(())
}
