//! Log lines that strangers can cause: one of a kind in a while, with a count of those left out.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Least time between two lines of a kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Says which lines of one kind to write.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether to write a line now: the number of lines left out since the last one.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.0.is_some_and(|last| now.duration_since(last) < PAUSE) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_makes_one_line_that_counts_the_rest_later() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.due_at(now), Some(0));
        assert_eq!((seldom.due_at(now), seldom.due_at(now + PAUSE / 2)), (None, None));
        assert_eq!(seldom.due_at(now + PAUSE), Some(2));
    }
}
