//! What is measured while a world runs.

use std::time::Duration;

use crate::settings::{MINUTE, Millis};
use crate::world::World;

/// Eight buckets for each doubling.
const STEPS: u32 = 8;

/// Real time that calls took. Only shown: it differs from run to run.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    calls: u64,
    nanoseconds: u64,
    /// Calls by the logarithm of their time.
    buckets: Vec<u64>,
}

impl Cost {
    /// Takes note of one call.
    pub fn add(&mut self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let bucket = ((took as f64).log2() * f64::from(STEPS)) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.calls += 1;
        self.nanoseconds += took;
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// What a call took on average, in nanoseconds.
    pub fn mean(&self) -> f64 {
        self.nanoseconds as f64 / self.calls.max(1) as f64
    }

    /// What all but this share took at most, in nanoseconds (to within a tenth).
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.calls as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|calls| {
            seen += calls;
            seen >= rank
        });
        bucket.map_or(0.0, |bucket| 2f64.powf((bucket + 1) as f64 / f64::from(STEPS)))
    }
}

/// The network at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Millis,
    /// Peers online.
    pub online: usize,
    /// Of these, people that have no link.
    pub alone: usize,
    /// Links that carry something.
    pub links: usize,
}

/// What peers know at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Knowledge {
    /// When.
    pub at: Millis,
    /// Known peers, on average over those that run.
    pub mean: f64,
    /// Known peers of the one that knows most.
    pub most: usize,
}

/// How one message spread.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    /// Reachable followers.
    pub reachable: usize,
    /// How long each of those that have it has waited for it, in milliseconds.
    pub waits: Vec<u32>,
}

impl Spread {
    /// How long this share of the reachable followers have waited; `None` if they never got it.
    pub fn until(&self, share: f64) -> Option<Millis> {
        let rank = (self.reachable as f64 * share).ceil() as usize;
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits.get(rank.max(1) - 1).map(|wait| Millis::from(*wait))
    }
}

/// All that is measured, but the cost.
#[derive(Debug, Clone, Default)]
pub struct Measures {
    /// Dials begun, by minute.
    pub dials: Vec<u32>,
    /// Dials that failed, by the minute in which they began.
    pub failed: Vec<u32>,
    /// Failed dials of dead addresses; the others were of peers that were offline or cut off.
    pub failed_dead: u64,
    /// Dials begun in each second after the reconnect.
    pub stampede: Vec<u32>,
    /// The network at regular times.
    pub samples: Vec<Sample>,
    /// The network around the reconnect.
    pub around_reconnect: Vec<Sample>,
    /// What peers know.
    pub knowledge: Vec<Knowledge>,
    /// The size of the states at the end, as JSON: on average and at most.
    pub bytes: (f64, usize),
    /// Links that came up.
    pub links: u64,
    /// How long all links lasted together.
    pub link_time: Millis,
    /// Links that a policy ended.
    pub hung_up: u64,
    /// How messages spread; those without reachable followers are left out.
    pub spreads: Vec<Spread>,
    /// How often a policy was found to exceed its own limits.
    pub over_limit: u64,
    /// Things that happened in the world.
    pub events: u64,
}

impl Measures {
    /// None yet.
    pub fn new(world: &World) -> Self {
        let minutes = (world.settings.duration / MINUTE) as usize + 1;
        Measures { dials: vec![0; minutes], failed: vec![0; minutes], ..Measures::default() }
    }

    /// All dials, and those that failed.
    pub fn all_dials(&self) -> (u64, u64) {
        let sum = |minutes: &[u32]| minutes.iter().map(|dials| u64::from(*dials)).sum();
        (sum(&self.dials), sum(&self.failed))
    }
}
