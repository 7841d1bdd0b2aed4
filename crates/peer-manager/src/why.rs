//! Why a peer is or isn't connected, for people.

use std::fmt;

use sbot_feed::FeedId;

use crate::state::{Direction, Millis, State};

/// Why a peer is or isn't connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// We never heard of it.
    Unknown,
    /// It is ourselves.
    OwnKey,
    /// It is banned.
    Banned,
    /// It is connected.
    Connected {
        /// Who dialed.
        by: Direction,
        /// For how long, in milliseconds.
        since: Millis,
    },
    /// Its link is being closed.
    Disconnecting,
    /// It is being dialed.
    Dialing {
        /// Where.
        route: String,
    },
    /// It failed, or was lost, and is dialed again later.
    Pausing {
        /// Milliseconds until then.
        remaining: Millis,
        /// How often it has failed in a row.
        failures: u32,
        /// What went wrong last.
        error: Option<String>,
    },
    /// It is to be dialed, but enough is under way.
    Queued,
    /// It is to be dialed, but nobody is while the scheduler is stopped.
    SchedulerStopped,
    /// No address of it is known.
    NoRoute,
    /// The user disconnected it.
    DisconnectedByHand,
    /// Nobody has asked for it.
    NotAskedFor,
}

impl State {
    /// Why a peer is or isn't connected.
    pub fn why(&self, key: &FeedId) -> Why {
        if *key == self.own {
            return Why::OwnKey;
        }
        let Some(peer) = self.peer(key) else { return Why::Unknown };
        if let Some(link) = &peer.link {
            return match link.leaving {
                true => Why::Disconnecting,
                false => Why::Connected { by: link.direction, since: self.now.saturating_sub(link.since) },
            };
        }
        if let Some(dialing) = &peer.dialing {
            return Why::Dialing { route: dialing.route.clone() };
        }
        match peer.next_try {
            _ if peer.banned => Why::Banned,
            Some(_) if !self.running && !peer.asked => Why::SchedulerStopped,
            Some(when) if when > self.now => {
                Why::Pausing { remaining: when - self.now, failures: peer.failures, error: peer.last_error.clone() }
            }
            Some(_) => Why::Queued,
            None if peer.wanted == Some(false) => Why::DisconnectedByHand,
            None if peer.routes.is_empty() => Why::NoRoute,
            None => Why::NotAskedFor,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |millis: &Millis| millis.div_ceil(1000);
        match self {
            Why::Unknown => f.write_str("not known"),
            Why::OwnKey => f.write_str("this is our own key"),
            Why::Banned => f.write_str("banned"),
            Why::Connected { by: Direction::Outgoing, since } => {
                write!(f, "connected for {} s, dialed by us", seconds(since))
            }
            Why::Connected { by: Direction::Incoming, since } => {
                write!(f, "connected for {} s, it dialed us", seconds(since))
            }
            Why::Disconnecting => f.write_str("its connection is being closed"),
            Why::Dialing { route } => write!(f, "dialing {route}"),
            Why::Pausing { remaining, failures: 0, .. } => write!(f, "dialed again in {} s", seconds(remaining)),
            Why::Pausing { remaining, failures, error } => {
                let times = if *failures == 1 { "failure" } else { "failures in a row" };
                write!(f, "dialed again in {} s, after {failures} {times}", seconds(remaining))?;
                error.as_ref().map_or(Ok(()), |error| write!(f, "; the last: {error}"))
            }
            Why::Queued => f.write_str("to be dialed as soon as others are done"),
            Why::SchedulerStopped => f.write_str("not dialed: the scheduler is stopped"),
            Why::NoRoute => f.write_str("no address of it is known"),
            Why::DisconnectedByHand => f.write_str("disconnected by hand"),
            Why::NotAskedFor => f.write_str("nobody has asked for it"),
        }
    }
}
