//! Time that passes evenly: it neither jumps when somebody sets the clock, nor stands still while the machine sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::publish::Clock;

/// Milliseconds since any moment, with those that the machine slept.
pub type Uptime = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's uptime.
#[must_use]
pub fn system_uptime() -> Uptime {
    let start = Instant::now();
    Arc::new(move || boot_time().unwrap_or_else(|| millis(start.elapsed())))
}

/// Linux counts the time that the machine slept, too; where nothing does, sleep is not noticed.
#[cfg(target_os = "linux")]
fn boot_time() -> Option<u64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(seconds * 1000 + u64::try_from(time.tv_nsec).ok()? / 1_000_000)
}

#[cfg(not(target_os = "linux"))]
fn boot_time() -> Option<u64> {
    None
}

/// A duration in milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970 as the clock showed them when this began, and evenly from then on.
#[derive(Clone)]
pub(crate) struct Steady {
    began: u64,
    at: u64,
    uptime: Uptime,
}

impl Steady {
    pub(crate) fn new(clock: &Clock, uptime: Uptime) -> Steady {
        // A clock before 1970 is taken for 1970.
        Steady { began: clock().max(0.0) as u64, at: uptime(), uptime }
    }

    /// Now.
    pub(crate) fn now(&self) -> u64 {
        self.began + (self.uptime)().saturating_sub(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_clock_that_jumps_changes_nothing_after_the_start() {
        let (clock, uptime) = (Arc::new(AtomicU64::new(1_000_000)), Arc::new(AtomicU64::new(50)));
        let (shown, passed) = (Arc::clone(&clock), Arc::clone(&uptime));
        let clock_of = Arc::new(move || shown.load(Ordering::Relaxed) as f64) as Clock;
        let steady = Steady::new(&clock_of, Arc::new(move || passed.load(Ordering::Relaxed)));
        clock.store(90_000_000, Ordering::Relaxed);
        uptime.store(60, Ordering::Relaxed);
        assert_eq!(steady.now(), 1_000_010);
        clock.store(3, Ordering::Relaxed);
        assert_eq!(steady.now(), 1_000_010);
    }
}
