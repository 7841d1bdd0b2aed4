//! What a peer may cost: budgets of calls, bytes and wants, one set a peer.
//!
//! Each budget is a token bucket: it holds [`Allowance::burst`] when it is full, and fills up evenly with
//! [`Allowance::per_hour`]. Who spends more than there is goes into debt and is slowed down until that is paid; who is in
//! debt again and again, for [`Budgets::patience`], is to be hung up on. Accounts outlive connections, so that hanging up
//! and dialing anew is no way around them, and are forgotten when all is full again.
//!
//! No clock: `now` is milliseconds since any fixed time, and never goes back.

use std::collections::HashMap;
use std::fmt;

use sbot_feed::FeedId;

/// Milliseconds an hour.
const HOUR: i128 = 3_600_000;

/// Most peers whose accounts are kept, some 250 bytes each: several times as many as can be connected. Beyond it the one
/// that owes least is forgotten: many keys cost nobody else their account, and whoever is over budget is the last to go.
pub const MOST_ACCOUNTS: usize = 1024;

/// Longest pause at once, in ms: the peer's goodbye, and our patience's end, should not be noticed much later.
const LONGEST_PAUSE: u64 = 2_000;

/// Who has paid all debts is out of trouble once this part of the bucket is full again.
const RECOVERED: i128 = 16;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cost {
    /// Calls of methods, refused ones too.
    Calls,
    /// Bytes that the peer sends.
    BytesIn,
    /// Bytes that we send.
    BytesOut,
    /// Blobs that it says it wants.
    Wants,
}

impl Cost {
    /// All of them.
    pub const ALL: [Cost; 4] = [Cost::Calls, Cost::BytesIn, Cost::BytesOut, Cost::Wants];

    fn name(self) -> &'static str {
        match self {
            Cost::Calls => "calls",
            Cost::BytesIn => "bytes sent to us",
            Cost::BytesOut => "bytes sent by us",
            Cost::Wants => "wants of blobs",
        }
    }

    fn place(self) -> usize {
        match self {
            Cost::Calls => 0,
            Cost::BytesIn => 1,
            Cost::BytesOut => 2,
            Cost::Wants => 3,
        }
    }
}

/// How much there is of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// What a full bucket holds.
    pub burst: u64,
    /// What flows in an hour.
    pub per_hour: u64,
}

/// Budgets of a peer. `None` is without bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Calls.
    pub calls: Option<Allowance>,
    /// Bytes that the peer sends.
    pub bytes_in: Option<Allowance>,
    /// Bytes that we send.
    pub bytes_out: Option<Allowance>,
    /// Wants of blobs.
    pub wants: Option<Allowance>,
    /// How long somebody may be over budget before we hang up, in ms.
    pub patience: u64,
}

impl Budgets {
    /// Calls a second, and a hundred seconds' worth at once.
    #[must_use]
    pub fn calls_a_second(calls: u64) -> Allowance {
        Allowance { burst: calls.saturating_mul(100), per_hour: calls.saturating_mul(3600) }
    }

    /// So much an hour, and as much at once.
    #[must_use]
    pub fn an_hour(amount: u64) -> Allowance {
        Allowance { burst: amount, per_hour: amount }
    }

    fn of(&self, cost: Cost) -> Option<Allowance> {
        match cost {
            Cost::Calls => self.calls,
            Cost::BytesIn => self.bytes_in,
            Cost::BytesOut => self.bytes_out,
            Cost::Wants => self.wants,
        }
    }
}

impl Default for Budgets {
    /// What no ssb-server that means well comes near to, so that it is never slowed.
    fn default() -> Self {
        Budgets {
            // A peer without EBT opens a stream for each feed at once, of which 16,384 may be open; 200 blobs are 400 calls.
            calls: Some(Budgets::calls_a_second(200)),
            // Sixteen initial syncs of 1 GB in an hour, or 3,000 blobs of the largest size that is fetched.
            bytes_in: Some(Budgets::an_hour(16 << 30)),
            bytes_out: Some(Budgets::an_hour(16 << 30)),
            // A peer repeats all its wants with every connection: 10,000 of them, twenty times.
            wants: Some(Budgets::an_hour(200_000)),
            // As long as a reader that doesn't read is borne with.
            patience: 60_000,
        }
    }
}

/// What an expense leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spent {
    /// It is within the budget.
    Within,
    /// Slow down: ask again, with an expense of 0, after so many ms.
    Slowly(u64),
    /// Hang up, and tell the peer this.
    TooMuch(Over),
}

/// Which budget a peer is over. Printed, it is what the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// What there was too much of.
    pub cost: Cost,
    /// How much there may be.
    pub allowance: Allowance,
    /// For how long it was slowed down, in ms.
    pub patience: u64,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Over { cost, allowance, patience } = self;
        let (what, hour, burst, seconds) = (cost.name(), allowance.per_hour, allowance.burst, patience / 1000);
        write!(
            f,
            "over budget: more than {hour} {what} an hour, {burst} at once, and slowed down for {seconds} s already"
        )
    }
}

/// The accounts of all peers.
#[derive(Debug, Default)]
pub struct Accounts {
    budgets: Budgets,
    peers: HashMap<FeedId, [Bucket; Cost::ALL.len()]>,
}

/// What is left of one budget.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What has been spent, times [`HOUR`]: 0 is full.
    spent: i128,
    /// When that was.
    at: u64,
    /// Since when it has been in debt, short recoveries included.
    trouble: Option<u64>,
}

impl Bucket {
    fn fill(&mut self, allowance: Allowance, now: u64) {
        let passed = now.saturating_sub(self.at);
        self.spent = (self.spent - i128::from(passed) * i128::from(allowance.per_hour)).max(0);
        self.at = self.at.max(now);
        let burst = i128::from(allowance.burst) * HOUR;
        if self.spent <= burst - burst / RECOVERED {
            self.trouble = None;
        }
    }

    fn spend(&mut self, amount: u64, allowance: Allowance, patience: u64, now: u64) -> Result<u64, ()> {
        self.fill(allowance, now);
        self.spent = self.spent.saturating_add(i128::from(amount) * HOUR);
        let debt = self.spent - i128::from(allowance.burst) * HOUR;
        if debt <= 0 {
            return Ok(0);
        }
        let since = *self.trouble.get_or_insert(now);
        if now.saturating_sub(since) >= patience {
            return Err(());
        }
        // Rounded up, so that it is paid then.
        let wait = debt / i128::from(allowance.per_hour.max(1)) + 1;
        Ok(u64::try_from(wait).unwrap_or(u64::MAX).min(LONGEST_PAUSE))
    }
}

impl Accounts {
    /// Accounts with these budgets, all of them full.
    #[must_use]
    pub fn new(budgets: Budgets) -> Accounts {
        Accounts { budgets, peers: HashMap::new() }
    }

    /// Counts an expense of a peer.
    pub fn spend(&mut self, peer: &FeedId, cost: Cost, amount: u64, now: u64) -> Spent {
        let Some(allowance) = self.budgets.of(cost) else { return Spent::Within };
        if !self.peers.contains_key(peer) {
            if amount == 0 {
                return Spent::Within;
            }
            self.make_room(now);
        }
        let full = [Bucket { spent: 0, at: now, trouble: None }; Cost::ALL.len()];
        let buckets = self.peers.entry(*peer).or_insert(full);
        let patience = self.budgets.patience;
        // The place is that of one of them all.
        let Some(bucket) = buckets.get_mut(cost.place()) else { return Spent::Within };
        match bucket.spend(amount, allowance, patience, now) {
            Ok(0) => Spent::Within,
            Ok(wait) => Spent::Slowly(wait),
            Err(()) => Spent::TooMuch(Over { cost, allowance, patience }),
        }
    }

    /// How many accounts are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    fn make_room(&mut self, now: u64) {
        if self.peers.len() < MOST_ACCOUNTS {
            return;
        }
        let budgets = self.budgets;
        self.peers.retain(|_, buckets| owes(&budgets, buckets, now) > 0);
        if self.peers.len() < MOST_ACCOUNTS {
            return;
        }
        let least = self.peers.iter().min_by_key(|(_, buckets)| owes(&budgets, buckets, now)).map(|(peer, _)| *peer);
        if let Some(least) = least {
            self.peers.remove(&least);
        }
    }
}

/// The emptiest of the buckets: in millionths of what it holds.
fn owes(budgets: &Budgets, buckets: &[Bucket; Cost::ALL.len()], now: u64) -> i128 {
    let part = |(cost, mut bucket): (Cost, Bucket)| {
        let allowance = budgets.of(cost)?;
        bucket.fill(allowance, now);
        Some(bucket.spent.saturating_mul(1_000_000) / (i128::from(allowance.burst.max(1)) * HOUR))
    };
    Cost::ALL.into_iter().zip(*buckets).filter_map(part).max().unwrap_or(0)
}
