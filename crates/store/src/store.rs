//! The store: its parts, its threads, and what others may ask of it.

use std::io::{Read, Write};
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use sbot_feed::{FeedId, FeedTip, HmacKey, Message, MsgId};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::claimed::Claimed;
use crate::clock::Clock;
use crate::error::{Refusal, StoreError};
use crate::forks::{Fork, Forks};
use crate::index::{BOXED, Index, kind_of};
use crate::ingest::{GATHERING, Gathering, Incoming, Ingested, Job, MAX_JOB, MAX_JOB_BYTES, MAX_UNDER_WAY};
use crate::links::{Link, LinkQuery, Links};
use crate::log::Log;
use crate::open::{self, Opened, Progress, StoreOptions};
use crate::quarantine::Damage;
use crate::read::Direction;
use crate::record::Record;
use crate::syncing::Syncing;
use crate::transfer::{self, ImportSummary, TransferProgress};
use crate::writer::{Command, Own, Writer};

/// Own messages that wait to be written.
const MAX_OWN: usize = 64;

/// What is under way is counted in so many bytes.
const UNIT: usize = 1024;

/// What readers and the store's threads share.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) log: Log,
    pub(crate) index: RwLock<Index>,
    pub(crate) forks: Mutex<Forks>,
    pub(crate) claimed: Mutex<Claimed>,
    pub(crate) links: Mutex<Links>,
    pub(crate) hmac: Option<HmacKey>,
    pub(crate) clock: Clock,
    length: watch::Receiver<u64>,
    /// How many records turned out to be damaged while they were read.
    pub(crate) lost: watch::Sender<u64>,
}

/// The message log. Clones are the same store; when the last one is dropped, it closes.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    under_way: Arc<Semaphore>,
    own: Arc<Semaphore>,
    /// Gone once the store is closed.
    senders: Mutex<Option<Senders>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: Mutex<Option<oneshot::Receiver<Result<(), StoreError>>>>,
}

#[derive(Clone)]
struct Senders {
    jobs: Sender<Job>,
    commands: Sender<Command>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The threads end when nobody can send to them any more, with everything on disk.
        self.senders.lock().take();
        for thread in self.threads.lock().drain(..) {
            // A panic there has been told on stderr.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.inner.shared.dir).field("len", &self.len()).finish()
    }
}

impl Store {
    /// Opens the log in `dir`, or begins one.
    ///
    /// What a crash cut short at its end is removed; damage elsewhere is told of ([`Store::damage`]) and costs nothing but
    /// the damaged messages. `progress` is called while the log is read because there is no index for it, or not all.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Io`].
    pub fn open(dir: &Path, options: StoreOptions, progress: &mut dyn FnMut(Progress)) -> Result<Store, StoreError> {
        let Opened { lock, log, index, scanned } = open::open(dir, progress)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).thread_name(|n| format!("verify-{n}"));
        let no_thread = |error| StoreError::io("can't start a thread for", dir, error);
        let pool = pool.build().map_err(|error| no_thread(std::io::Error::other(error)))?;
        let holed: Vec<FeedId> =
            index.feeds.iter().filter(|feed| feed.contiguous() > feed.tip_sequence()).map(|feed| feed.id).collect();
        let (length, watching) = watch::channel(index.len());
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            log,
            index: RwLock::new(index),
            forks: Mutex::new(Forks::load(&dir.join("forks"))),
            claimed: Mutex::default(),
            links: Mutex::default(),
            hmac: options.hmac,
            clock: options.clock,
            length: watching,
            lost: watch::Sender::new(0),
        });
        for feed in holed {
            shared.settle(&feed)?;
        }

        let (jobs, job_queue) = mpsc::channel();
        let (commands, command_queue) = mpsc::channel();
        let (done, closed) = oneshot::channel();
        let spawn =
            |name: &str, work: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.into()).spawn(work);
        let synced = Arc::clone(&shared);
        let (syncing, work) = Syncing::new(Arc::new(move |from| synced.log.sync(from)));
        let mut threads = vec![spawn("store-sync", Box::new(work)).map_err(no_thread)?];
        let writer = Writer::new(Arc::clone(&shared), length, lock, scanned, syncing);
        let writing = spawn(
            "store-write",
            Box::new(move || {
                let result = writer.run(&command_queue);
                // Nobody may wait for it.
                drop(done.send(result));
            }),
        );
        threads.push(writing.map_err(no_thread)?);
        let (gathering, pool) = (Arc::new(Gathering::new(job_queue, commands.clone())), Arc::new(pool));
        for number in 0..GATHERING {
            let (ours, gathering, pool) = (Arc::clone(&shared), Arc::clone(&gathering), Arc::clone(&pool));
            let thread = spawn(&format!("store-ingest-{number}"), Box::new(move || gathering.run(&ours, &pool)));
            threads.push(thread.map_err(no_thread)?);
        }
        Ok(Store {
            inner: Arc::new(Inner {
                shared,
                under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY / UNIT)),
                own: Arc::new(Semaphore::new(MAX_OWN)),
                senders: Mutex::new(Some(Senders { jobs, commands })),
                threads: Mutex::new(threads),
                closed: Mutex::new(Some(closed)),
            }),
        })
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    fn senders(&self) -> Result<Senders, StoreError> {
        self.inner.senders.lock().clone().ok_or(StoreError::Closed)
    }

    /// Takes in messages from peers, given as JSON: the value, or an object with the value in it.
    ///
    /// They are parsed and verified off the async threads and appended in the order given; the answer has one entry for
    /// each. One that can't be stored doesn't keep the others from being stored. While too much is under way (8 MiB), this
    /// waits. What has been handed over is stored even if the future is dropped.
    pub async fn ingest(&self, batch: Vec<Bytes>) -> Vec<Ingested> {
        let count = batch.len();
        let mut waiting = Vec::new();
        let mut rest = batch.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut part, mut size) = (Vec::new(), 0);
            while part.len() < MAX_JOB
                && size < MAX_JOB_BYTES
                && let Some(json) = rest.next()
            {
                size += json.len();
                part.push(Incoming { json, received: None });
            }
            let length = part.len();
            waiting.push((length, self.submit(part).await));
        }
        let mut answers = Vec::with_capacity(count);
        for (length, answer) in waiting {
            let answer = match answer {
                Ok(answer) => answer.await.map_err(|_| StoreError::Closed),
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => answers.extend(answer),
                Err(error) => {
                    let error = Refusal::Store(error.to_string());
                    let refused = Ingested::Invalid { error, author: None, sequence: None };
                    answers.extend(std::iter::repeat_n(refused, length));
                }
            }
        }
        answers
    }

    /// Hands messages over, as soon as there is room for them.
    pub(crate) async fn submit(&self, messages: Vec<Incoming>) -> Result<oneshot::Receiver<Vec<Ingested>>, StoreError> {
        let bytes: usize = messages.iter().map(|incoming| incoming.json.len()).sum();
        let units = (bytes / UNIT + 1).min(MAX_UNDER_WAY / UNIT) as u32;
        let permit = Arc::clone(&self.inner.under_way).acquire_many_owned(units).await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let (answer, receiver) = oneshot::channel();
        self.senders()?.jobs.send(Job { messages, answer, permit }).map_err(|_| StoreError::Closed)?;
        Ok(receiver)
    }

    /// Appends a message that we have signed ourselves. When this answers, it is on disk.
    ///
    /// # Errors
    /// [`StoreError::Message`] if it doesn't follow its feed's tip, [`StoreError::Damaged`] if the feed goes on behind the
    /// tip but the next message can't be read, [`StoreError::Io`] if it could not be written: then it is not in the log.
    pub async fn append_own(&self, message: Message) -> Result<Record, StoreError> {
        let permit = Arc::clone(&self.inner.own).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (answer, receiver) = oneshot::channel();
        let own = Command::Own(Own { message, answer, _permit: permit });
        self.senders()?.commands.send(own).map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// The newest message of a feed.
    pub fn tip(&self, feed: &FeedId) -> Option<FeedTip> {
        self.shared().index.read().feed(feed)?.tip
    }

    /// Every feed that has messages, with its newest sequence. In no particular order.
    pub fn clock(&self) -> Vec<(FeedId, u64)> {
        let index = self.shared().index.read();
        index.feeds.iter().filter_map(|feed| Some((feed.id, feed.tip?.sequence))).collect()
    }

    /// Every feed that has messages. In no particular order.
    pub fn feeds(&self) -> Vec<FeedId> {
        self.clock().into_iter().map(|(feed, _)| feed).collect()
    }

    /// The feeds that are known to have forked, with the earliest fork that was seen.
    pub fn forks(&self) -> Vec<Fork> {
        self.shared().forks.lock().list()
    }

    /// Stretches of the log that can't be read, at most the first 1,000.
    pub fn damage(&self) -> Vec<Damage> {
        self.shared().index.read().damage.clone()
    }

    /// Counts the records that turned out to be damaged while they were read: their feeds have become shorter.
    pub fn watch_damage(&self) -> watch::Receiver<u64> {
        self.shared().lost.subscribe()
    }

    /// The message of this id.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get(&self, key: &MsgId) -> Result<Option<Record>, StoreError> {
        self.shared().get(key)
    }

    /// The message at this place of a feed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get_at(&self, feed: &FeedId, sequence: u64) -> Result<Option<Record>, StoreError> {
        let number = self.shared().index.read().record_of(feed, sequence);
        number.map_or(Ok(None), |number| self.shared().read_one(number))
    }

    /// The record of this number; `None` too if it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn record(&self, number: u64) -> Result<Option<Record>, StoreError> {
        u32::try_from(number).map_or(Ok(None), |number| self.shared().read_one(number))
    }

    /// The records of these numbers, in this order and in few reads; damaged ones are left out. Hand over a thousand or so
    /// at a time: all are in memory at once.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn records(&self, numbers: &[u32]) -> Result<Vec<Record>, StoreError> {
        self.shared().read_numbers(numbers)
    }

    /// Up to `max` messages of a feed (and no more than 16,384), from a sequence on, without gaps. Their values share
    /// buffers.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_feed(&self, feed: &FeedId, from: u64, max: usize) -> Result<Vec<Record>, StoreError> {
        self.shared().read_feed(feed, from, max, u64::MAX)
    }

    /// As [`Store::read_feed`], and no more than it takes to have `bytes` bytes of the log.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_feed_within(
        &self,
        feed: &FeedId,
        from: u64,
        max: usize,
        bytes: u64,
    ) -> Result<Vec<Record>, StoreError> {
        self.shared().read_feed(feed, from, max, bytes)
    }

    /// An upper bound of the bytes that messages of a feed take in the log, of as many as [`Store::read_feed`] gives.
    pub fn feed_bytes(&self, feed: &FeedId, from: u64, max: usize) -> u64 {
        self.shared().feed_bytes(feed, from, max)
    }

    /// Up to `max` records (and no more than 16,384) in the order in which they came, from number `from` on: itself and
    /// later ones, or itself and earlier ones. Their values share buffers. Damaged records are left out; only an end of the
    /// log gives an empty answer.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_log(&self, from: u64, max: usize, direction: Direction) -> Result<Vec<Record>, StoreError> {
        self.shared().read_log(from, max, direction)
    }

    /// The numbers of all records whose content has this type, ascending.
    pub fn by_type(&self, kind: &str) -> Vec<u32> {
        if kind == BOXED {
            return Vec::new();
        }
        let rare = {
            let index = self.shared().index.read();
            match index.types.get(kind) {
                Some(numbers) => return numbers.clone(),
                None => index.rare.clone(),
            }
        };
        let is_of_kind = |number: &u32| {
            let record = self.shared().read_one(*number);
            matches!(record, Ok(Some(record)) if kind_of(&record.value) == kind)
        };
        rare.into_iter().filter(is_of_kind).collect()
    }

    /// The numbers of all records whose content is boxed, whoever it is for, ascending.
    pub fn boxed(&self) -> Vec<u32> {
        self.shared().index.read().types.get(BOXED).cloned().unwrap_or_default()
    }

    /// The numbers of the records within a range of time, in the order of ssb-db's `createFeedStream`: by the time that the
    /// author claims, or that of receipt if that is earlier; then by author.
    ///
    /// The first call reads the whole log, later ones what has come since.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn by_claimed_time(&self, range: impl RangeBounds<f64>) -> Result<Vec<u32>, StoreError> {
        self.shared().by_claimed_time(&range)
    }

    /// The links of public messages, in the order of the index that ssb-db would have read (`indexes/links.js`): by source,
    /// field and target, or by target first if only a target is given.
    ///
    /// The first call for a target reads the whole log, later ones what has come since.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn links(&self, query: &LinkQuery) -> Result<Vec<Link>, StoreError> {
        self.shared().query_links(query)
    }

    /// The numbers of the records of public messages that link to `dest`, ascending. Now and then one that doesn't is among
    /// them: see [`crate::links_of`].
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn linking_to(&self, dest: &str) -> Result<Vec<u32>, StoreError> {
        self.shared().linking_to(dest)
    }

    /// How many records there are; the newest one's number is one less. Never behind what tips and queries have told.
    pub fn len(&self) -> u64 {
        self.shared().index.read().len()
    }

    /// Bytes of the log on disk.
    pub fn bytes(&self) -> u64 {
        self.shared().log.bytes_from(0)
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes when records have been appended: its value is how many there are. Ends when the store closes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared().length.clone()
    }

    /// Waits until everything that has been stored is on disk.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the disk doesn't take it, [`StoreError::Closed`].
    pub fn flush(&self) -> Result<(), StoreError> {
        let (answer, receiver) = mpsc::sync_channel(1);
        self.senders()?.commands.send(Command::Flush(answer)).map_err(|_| StoreError::Closed)?;
        receiver.recv().map_err(|_| StoreError::Closed)?
    }

    /// Stores what has been handed over, saves the index and lets go of the directory. Reading goes on to work. A second
    /// call does nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the last messages can't be synced.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.senders.lock().take();
        let closed = self.inner.closed.lock().take();
        match closed {
            Some(closed) => closed.await.map_err(|_| StoreError::Closed)?,
            None => Ok(()),
        }
    }

    /// Takes in messages, one JSON text a line: the value, or `{key, value, timestamp}` as [`Store::export`] writes it,
    /// whose time of receipt is kept as far as it lies after that of what is here. Empty lines are passed over; a line that
    /// can't be taken is told of in the summary and stops nothing.
    ///
    /// Blocks until all is on disk. Don't call it on an async thread.
    ///
    /// # Errors
    /// [`StoreError::Io`] if `input` can't be read or the log not be synced.
    pub fn import(
        &self,
        input: impl Read,
        progress: &mut dyn FnMut(TransferProgress),
    ) -> Result<ImportSummary, StoreError> {
        transfer::import(self, input, progress)
    }

    /// Writes all messages in the order in which they came, as lines of `{"key":…,"value":…,"timestamp":…}`.
    ///
    /// Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the log can't be read or `out` not be written.
    pub fn export(
        &self,
        out: impl Write,
        progress: &mut dyn FnMut(TransferProgress),
    ) -> Result<TransferProgress, StoreError> {
        transfer::export(self, out, progress)
    }
}
