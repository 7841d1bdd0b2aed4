//! Budgets at work: what peers spend is counted, and their connections are slowed down or closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sbot_authorisation::{Accounts, Budgets, Cost, Spent};
use sbot_feed::FeedId;
use sbot_rpc::{Meter, Pace};

use crate::time::millis;

/// What peers have spent.
pub(super) struct Ledger {
    accounts: Mutex<Accounts>,
    started: Instant,
}

impl Ledger {
    pub(super) fn new(budgets: Budgets) -> Arc<Ledger> {
        Arc::new(Ledger { accounts: Mutex::new(Accounts::new(budgets)), started: Instant::now() })
    }

    pub(super) fn spend(&self, peer: &FeedId, cost: Cost, amount: u64) -> Pace {
        match self.accounts.lock().spend(peer, cost, amount, millis(self.started.elapsed())) {
            Spent::Within => Pace::Go,
            Spent::Slowly(pause) => Pace::Wait(Duration::from_millis(pause)),
            Spent::TooMuch(over) => {
                tracing::warn!(%peer, %over, "hanging up");
                Pace::Stop(over.to_string())
            }
        }
    }
}

/// Counts what one peer spends.
pub(super) struct PeerMeter {
    pub(super) ledger: Arc<Ledger>,
    pub(super) peer: FeedId,
}

impl Meter for PeerMeter {
    fn read(&self, bytes: u64, calls: u64) -> Pace {
        let spend = |cost, amount| self.ledger.spend(&self.peer, cost, amount);
        // Both are counted, whatever the first says; the sterner counts.
        match (spend(Cost::BytesIn, bytes), spend(Cost::Calls, calls)) {
            (stop @ Pace::Stop(_), _) | (_, stop @ Pace::Stop(_)) => stop,
            (Pace::Wait(one), Pace::Wait(other)) => Pace::Wait(one.max(other)),
            (wait @ Pace::Wait(_), Pace::Go) | (Pace::Go, wait @ Pace::Wait(_)) => wait,
            (Pace::Go, Pace::Go) => Pace::Go,
        }
    }

    fn wrote(&self, bytes: u64) -> Pace {
        self.ledger.spend(&self.peer, Cost::BytesOut, bytes)
    }
}
