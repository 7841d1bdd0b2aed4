//! Handshakes under way: at most so many in all, and so many of one host.
//!
//! When there are too many, the oldest makes room: a peer that means it needs a few round trips, one that floods us
//! holds its connections open. A host that holds its share makes room itself; else the host with most does. So a flood
//! of stalled connections, even from a peer's own host, doesn't keep that peer out.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::task::AbortHandle;

use crate::transport::Origin;

/// The handshakes under way.
pub(crate) struct HalfOpen {
    in_all: usize,
    of_one: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// By order of arrival.
    entries: BTreeMap<u64, (Origin, Option<AbortHandle>)>,
}

impl HalfOpen {
    pub(crate) fn new(in_all: usize, of_one: usize) -> Self {
        HalfOpen { in_all: in_all.max(1), of_one: of_one.max(1), inner: Mutex::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing under the lock can leave it half done.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a place for a handshake with `origin`, and says how many others were ended for it.
    pub(crate) fn enter(&self, origin: Origin) -> (u64, usize) {
        let mut inner = self.inner();
        let mut ended = 0;
        while let Some(number) = inner.surplus(origin, self.in_all, self.of_one) {
            if let Some((_, Some(task))) = inner.entries.remove(&number) {
                task.abort();
            }
            ended += 1;
        }
        let number = inner.next;
        inner.next += 1;
        inner.entries.insert(number, (origin, None));
        (number, ended)
    }

    /// Says which task shakes hands, so that it can be ended; at once if its place is gone already.
    pub(crate) fn started(&self, number: u64, task: AbortHandle) {
        match self.inner().entries.get_mut(&number) {
            Some(entry) => entry.1 = Some(task),
            // It has finished, or had to make room.
            None => task.abort(),
        }
    }

    /// Gives the place back.
    pub(crate) fn leave(&self, number: u64) {
        self.inner().entries.remove(&number);
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.inner().entries.len()
    }
}

impl Inner {
    /// The one to end before another of `origin` may enter.
    fn surplus(&self, origin: Origin, in_all: usize, of_one: usize) -> Option<u64> {
        let oldest = |wanted: Origin| self.entries.iter().find(|(_, (of, _))| *of == wanted).map(|(number, _)| *number);
        let count = |wanted: Origin| self.entries.values().filter(|(of, _)| *of == wanted).count();
        if count(origin) >= of_one {
            return oldest(origin);
        }
        if self.entries.len() < in_all {
            return None;
        }
        // Of those who hold most, the one that came first.
        let mut most: Option<(usize, Origin)> = None;
        for (of, _) in self.entries.values() {
            let held = count(*of);
            if most.is_none_or(|(before, _)| held > before) {
                most = Some((held, *of));
            }
        }
        most.and_then(|(_, of)| oldest(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(number: u8) -> Origin {
        Origin::Ip([192, 0, 2, number].into())
    }

    #[test]
    fn the_oldest_of_the_host_with_most_makes_room() {
        let open = HalfOpen::new(4, 3);
        assert_eq!(open.enter(host(1)), (0, 0));
        assert_eq!(open.enter(host(2)), (1, 0));
        assert_eq!(open.enter(host(2)), (2, 0));
        assert_eq!(open.enter(host(2)), (3, 0));
        // Its own share is used up.
        assert_eq!(open.enter(host(2)), (4, 1));
        // All places are taken, host 2 has most of them: its second oldest goes.
        assert_eq!(open.enter(host(3)), (5, 1));
        let left: Vec<_> = open.inner().entries.keys().copied().collect();
        assert_eq!(left, [0, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn the_bounds_hold_whatever_comes(steps in prop::collection::vec((0u8..6, any::<bool>()), 0..200)) {
            let open = HalfOpen::new(8, 3);
            for (of, leave) in steps {
                let (number, _) = open.enter(host(of));
                prop_assert!(open.inner().entries.contains_key(&number));
                prop_assert!(open.len() <= 8);
                for of in 0..6 {
                    prop_assert!(open.inner().entries.values().filter(|(origin, _)| *origin == host(of)).count() <= 3);
                }
                if leave {
                    open.leave(number);
                }
            }
        }
    }
}
