//! Which of what was written has still to reach the disk, and a thread that sees to it while more is written.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// Bytes of others' messages after which a sync begins. A power cut may take about twice as many: those that are being
/// synced and those behind them. A crash of the process takes none.
const BEGIN_BYTES: u64 = 16 << 20;
/// Bytes behind those that are being synced after which nothing more is written before these are on disk.
const MOST_BYTES: u64 = 16 << 20;
/// How long others' messages may lie before a sync of them begins.
const BEGIN_AFTER: Duration = Duration::from_secs(1);

/// Makes everything from a place in the log up to now survive a power cut.
pub(crate) type SyncFrom = Arc<dyn Fn(u64) -> Result<(), StoreError> + Send + Sync>;

/// A stretch of the log, up to its end or to the next stretch.
#[derive(Clone, Copy)]
struct Stretch {
    from: u64,
    bytes: u64,
    since: Instant,
}

pub(crate) struct Syncing {
    sync: SyncFrom,
    orders: Sender<u64>,
    results: Receiver<Result<(), StoreError>>,
    /// Being synced.
    under_way: Option<Stretch>,
    /// Written since.
    written: Option<Stretch>,
}

impl Syncing {
    /// Also returns the work of the thread, which ends when this is dropped.
    pub(crate) fn new(sync: SyncFrom) -> (Syncing, impl FnOnce() + Send + 'static) {
        let (orders, next) = channel();
        let (done, results) = channel();
        let same = Arc::clone(&sync);
        let work = move || {
            while let Ok(from) = next.recv() {
                if done.send(same(from)).is_err() {
                    return;
                }
            }
        };
        (Syncing { sync, orders, results, under_way: None, written: None }, work)
    }

    /// `bytes` have been written at `from`.
    pub(crate) fn wrote(&mut self, from: u64, bytes: u64) {
        let written = self.written.get_or_insert(Stretch { from, bytes: 0, since: Instant::now() });
        written.bytes += bytes;
    }

    /// Whether all is on disk.
    pub(crate) fn is_done(&self) -> bool {
        self.under_way.is_none() && self.written.is_none()
    }

    /// How long nothing has to be done here; `None` if that is until the next is written.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let since = self.written.or(self.under_way)?.since;
        // When one is under way already, it is looked at now and then.
        let least = if self.under_way.is_some() { BEGIN_AFTER / 10 } else { Duration::ZERO };
        Some(BEGIN_AFTER.saturating_sub(since.elapsed()).max(least))
    }

    /// Begins to sync what has been lying for long enough, or is enough. Waits only when the disk is far behind.
    ///
    /// # Errors
    /// The last sync failed; what it was to sync will be tried again.
    pub(crate) fn upkeep(&mut self) -> Result<(), StoreError> {
        let behind = self.written.is_some_and(|written| written.bytes >= MOST_BYTES);
        self.collect(behind)?;
        let due = |stretch: &Stretch| stretch.bytes >= BEGIN_BYTES || stretch.since.elapsed() >= BEGIN_AFTER;
        if self.under_way.is_none()
            && let Some(written) = self.written.take_if(|written| due(written))
        {
            if self.orders.send(written.from).is_ok() {
                self.under_way = Some(written);
            } else {
                self.written = Some(written);
                return self.all();
            }
        }
        Ok(())
    }

    /// Waits until all is on disk.
    ///
    /// # Errors
    /// It isn't; it will be tried again.
    pub(crate) fn all(&mut self) -> Result<(), StoreError> {
        self.collect(true)?;
        let Some(written) = self.written.take() else { return Ok(()) };
        (self.sync)(written.from).inspect_err(|_| self.again(written))
    }

    /// Takes note of a sync that is done, or waits for the one under way.
    fn collect(&mut self, wait: bool) -> Result<(), StoreError> {
        let Some(under_way) = self.under_way else { return Ok(()) };
        let result = if wait { self.results.recv().ok() } else { self.results.try_recv().ok() };
        match result {
            Some(Ok(())) => self.under_way = None,
            Some(Err(error)) => {
                self.under_way = None;
                self.again(under_way);
                return Err(error);
            }
            // The thread has gone: what it had is synced with the rest.
            None if wait => {
                self.under_way = None;
                self.again(under_way);
            }
            None => {}
        }
        Ok(())
    }

    /// `stretch` is not on disk. The next try comes after another pause, however much there is.
    fn again(&mut self, stretch: Stretch) {
        let bytes = (stretch.bytes + self.written.map_or(0, |written| written.bytes)).min(BEGIN_BYTES - 1);
        self.written = Some(Stretch { from: stretch.from, bytes, since: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A disk that fails as often as is said, and the places from which it synced.
    fn disk(failures: u64) -> (Syncing, Receiver<u64>, std::thread::JoinHandle<()>) {
        let (tell, told) = channel();
        let left = AtomicU64::new(failures);
        let sync: SyncFrom = Arc::new(move |from| {
            let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            if fails {
                return Err(StoreError::Closed);
            }
            tell.send(from).map_err(|_| StoreError::Closed)
        });
        let (syncing, work) = Syncing::new(sync);
        (syncing, told, std::thread::spawn(work))
    }

    #[test]
    fn much_is_synced_beside_the_writing_and_the_rest_when_asked_for() {
        let (mut syncing, synced, thread) = disk(0);
        syncing.wrote(7, 1);
        assert!(syncing.upkeep().is_ok());
        assert!(synced.try_recv().is_err() && !syncing.is_done());
        syncing.wrote(8, BEGIN_BYTES);
        assert!(syncing.upkeep().is_ok());
        assert_eq!(synced.recv(), Ok(7));
        syncing.wrote(8 + BEGIN_BYTES, 5);
        assert!(syncing.all().is_ok() && syncing.is_done() && syncing.rest().is_none());
        assert_eq!(synced.recv(), Ok(8 + BEGIN_BYTES));
        drop(syncing);
        thread.join().unwrap();
    }

    #[test]
    fn what_could_not_be_synced_is_tried_again_from_where_it_began() {
        let (mut syncing, synced, thread) = disk(2);
        syncing.wrote(3, BEGIN_BYTES);
        assert!(syncing.upkeep().is_ok());
        syncing.wrote(3 + BEGIN_BYTES, 9);
        assert!(syncing.all().is_err() && !syncing.is_done());
        assert!(syncing.all().is_err() && !syncing.is_done());
        assert!(syncing.all().is_ok() && syncing.is_done());
        assert_eq!(synced.iter().next(), Some(3));
        drop(syncing);
        thread.join().unwrap();
    }

    #[test]
    fn a_disk_that_is_far_behind_is_waited_for() {
        let (mut syncing, synced, thread) = disk(0);
        syncing.wrote(0, BEGIN_BYTES);
        assert!(syncing.upkeep().is_ok());
        syncing.wrote(BEGIN_BYTES, MOST_BYTES);
        assert!(syncing.upkeep().is_ok());
        // The first was waited for, and the second begun.
        assert_eq!(synced.recv(), Ok(0));
        assert_eq!(synced.recv(), Ok(BEGIN_BYTES));
        drop(syncing);
        thread.join().unwrap();
    }
}
