//! Opening: the lock, the checkpoint, what the log holds beyond it, and what a crash or a bad disk has left.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sbot_feed::{FeedId, HmacKey};

use crate::checkpoint;
use crate::clock::{self, Clock};
use crate::error::StoreError;
use crate::index::{Index, NewRecord, kind_of, print_of, timestamp_of};
use crate::log::{Log, Stretch};
use crate::quarantine::{self, Damage, MAX_DAMAGE};
use crate::record;

/// How a store is to be opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The network's key for signing, `caps.sign`; `None` on the main network.
    pub hmac: Option<HmacKey>,
    /// What time it is when a message comes in. The default is the system's clock.
    pub clock: Clock,
    /// Threads that check signatures; 0 means one for each core.
    pub threads: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { hmac: None, clock: clock::system(), threads: 0 }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// How far the reading of a log without a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub done: u64,
    /// Bytes to read in all.
    pub total: u64,
}

/// Records between two notes of progress.
const PROGRESS_EVERY: u64 = 4096;

/// Records of a checkpoint that are held against the log, to tell whether they belong together.
const SAMPLES: u64 = 8;

/// What opening finds.
pub(crate) struct Opened {
    pub(crate) lock: File,
    pub(crate) log: Log,
    pub(crate) index: Index,
    /// Records that the checkpoint doesn't hold.
    pub(crate) scanned: u64,
}

pub(crate) fn index_path(dir: &Path) -> PathBuf {
    dir.join("index")
}

pub(crate) fn open(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Opened, StoreError> {
    fs::create_dir_all(dir).map_err(|error| StoreError::io("can't make", dir, error))?;
    let lock = lock(dir)?;
    let log = Log::open(dir)?;
    let (mut index, from) = match checkpoint::load(&index_path(dir)) {
        Some((index, end)) if end <= log.end() && is_of(&log, &index) => (index, end),
        _ => (Index::default(), 0),
    };
    let before = index.len();
    catch_up(dir, &log, &mut index, from, progress)?;
    let scanned = index.len() - before;
    Ok(Opened { lock, log, index, scanned })
}

/// Takes the directory for this process, or says that another one has it.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(|error| StoreError::io("can't open", &path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked(dir.to_owned())),
        Err(error) => return Err(StoreError::io("can't lock", &path, error.into())),
    }
    // For people who wonder who has it; a full disk may keep it from being written.
    let _ = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    Ok(file)
}

/// Whether some records lie in the log as the index says, the last one among them.
fn is_of(log: &Log, index: &Index) -> bool {
    let count = index.len();
    (0..SAMPLES.min(count)).all(|sample| {
        let number = (count - 1 - sample * (count / SAMPLES).max(1).min(count - 1) % count) as u32;
        let Some(place) = index.place(number) else { return false };
        let end = log.segment_end(place).min(place + record::MAX_RECORD as u64);
        let Ok(bytes) = log.read(place, end) else { return false };
        match record::read(&bytes, 0, 0) {
            Some(found) => Some(&print_of(&found.key)) == index.prints.get(number as usize),
            // A damaged record in the middle is no sign of another log.
            None => sample > 0,
        }
    })
}

fn catch_up(
    dir: &Path,
    log: &Log,
    index: &mut Index,
    from: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    let total = log.bytes_from(from);
    let (mut done, mut count) = (0, 0);
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut lost = 0_u64;
    log.scan(
        from,
        |place, found| {
            index.add(
                place,
                &NewRecord {
                    received: found.received,
                    key: found.key,
                    author: found.author,
                    sequence: found.sequence,
                    timestamp: timestamp_of(&found.value),
                    kind: &kind_of(&found.value),
                },
            );
            done += (record::HEAD + found.value.len()) as u64;
            count += 1;
            if count % PROGRESS_EVERY == 0 {
                progress(Progress { done, total });
            }
        },
        |stretch| match stretch.torn || stretches.len() < MAX_DAMAGE {
            true => stretches.push(stretch),
            false => lost += 1,
        },
    )?;
    progress(Progress { done: total, total });
    for stretch in stretches {
        if stretch.torn {
            quarantine::cut(dir, log, stretch)?;
        } else {
            let message = guess(log, index, stretch)?;
            report(index, Damage { place: stretch.from, length: stretch.to - stretch.from, message });
        }
    }
    if lost > 0 {
        tracing::error!(lost, "further stretches of the log are damaged");
    }
    Ok(())
}

/// The message that a damaged stretch seems to have held, and which its feed lacks.
fn guess(log: &Log, index: &mut Index, stretch: Stretch) -> Result<Option<(FeedId, u64)>, StoreError> {
    let head = log.read(stretch.from, stretch.to.min(stretch.from + record::HEAD as u64))?;
    let Some((author, sequence)) = record::guess(&head) else { return Ok(None) };
    index.suspect(&author, sequence);
    let known = index
        .feed(&author)
        .is_some_and(|feed| (1..=feed.records.len() as u64).contains(&sequence) && feed.record_of(sequence).is_none());
    Ok(known.then_some((author, sequence)))
}

/// Tells of damage, and remembers it.
pub(crate) fn report(index: &mut Index, damage: Damage) {
    let (segment, offset, bytes) = (damage.segment(), damage.offset(), damage.length);
    match &damage.message {
        Some((author, sequence)) => tracing::error!(segment, offset, bytes, %author, sequence,
            "the log is damaged: the feed ends before this message until a peer sends it again"),
        None => tracing::error!(
            segment,
            offset,
            bytes,
            "the log is damaged: messages are missing until peers send them again"
        ),
    }
    if index.damage.len() < MAX_DAMAGE {
        index.damage.push(damage);
    }
}
