//! When records came in: no two at the same time, later ones later.
//!
//! As monotonic-timestamp (`index.js`) does for ssb-db: what comes within one millisecond is told apart by fractions.

use std::sync::Arc;
use std::time::SystemTime;

/// What time it is, in ms since 1970.
pub type Clock = Arc<dyn Fn() -> f64 + Send + Sync>;

/// The system's clock, in whole ms as JavaScript has it.
pub(crate) fn system() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64))
}

/// Between two records of the same millisecond. Today's times have a resolution of a quarter of that.
const STEP: f64 = 0.001;

/// A time after `last`: `now` if that is after it.
pub(crate) fn after(last: f64, now: f64) -> f64 {
    if now > last {
        return now;
    }
    let next = last + STEP;
    if next > last { next } else { last.next_up() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_never_repeat_even_if_the_clock_stands_still_or_goes_back() {
        let mut last = 1_700_000_000_000.0;
        for now in [last, last, last - 5.0, last] {
            let next = after(last, now);
            assert!(next > last && next < last + 1.0);
            last = next;
        }
        assert_eq!(after(last, last.ceil() + 1.0), last.ceil() + 1.0);
        assert!(after(9e300, 0.0) > 9e300);
    }
}
