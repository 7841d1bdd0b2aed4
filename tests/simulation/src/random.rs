//! Chance, from a seed: the distributions that the world needs, over one generator.

use crate::settings::Millis;

/// A seeded generator: the same seed gives the same draws.
#[derive(Debug, Clone)]
pub(crate) struct Draws(fastrand::Rng);

impl Draws {
    /// A generator. Nothing else feeds it.
    pub(crate) fn new(seed: u64) -> Self {
        Draws(fastrand::Rng::with_seed(seed))
    }

    /// A generator of its own for one purpose, so that draws for one thing don't shift those for another.
    pub(crate) fn fork(&mut self) -> Draws {
        Draws(self.0.fork())
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Any number below `limit`; 0 if there is none.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.u64(..limit.max(1))
    }

    /// Any number from `low` up to below `high`, or `low` if that is none.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// Any number from 0 up to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// True with this chance.
    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// One of the items, if there are any.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        self.0.choice(items).copied()
    }

    /// Log-normal, with this median (Box and Muller's transform).
    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        median * (sigma * radius * (std::f64::consts::TAU * self.unit()).cos()).exp()
    }

    /// Time until the next of events that come at random, every `mean` on average.
    pub(crate) fn exponential(&mut self, mean: Millis) -> Millis {
        (-(1.0 - self.unit()).ln() * mean as f64) as Millis
    }

    /// How many of draws with this chance it takes until one succeeds: 1 or more.
    pub(crate) fn tries_until(&mut self, chance: f64) -> u64 {
        1 + ((1.0 - self.unit()).ln() / (1.0 - chance).ln()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_means() {
        let mut draws = Draws::new(7);
        let mean = |draw: &mut dyn FnMut() -> f64| (0..20_000).map(|_| draw()).sum::<f64>() / 20_000.0;
        let tries = mean(&mut || draws.tries_until(0.3) as f64);
        assert!((3.2..3.5).contains(&tries), "{tries}");
        let waits = mean(&mut || draws.exponential(1_000) as f64);
        assert!((960.0..1_040.0).contains(&waits), "{waits}");
        let logs = mean(&mut || draws.log_normal(50.0, 0.6).ln());
        assert!((3.88..3.94).contains(&logs), "{logs}");
    }
}
