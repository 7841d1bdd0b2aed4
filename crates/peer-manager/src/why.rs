//! Why a peer is or isn't connected, for people.

use std::fmt;

use sbot_feed::FeedId;

use crate::peer::{Direction, Peer};
use crate::route::{Kind, Source};
use crate::schedule::{Lane, Place};
use crate::state::{Millis, State};

/// Why a peer is or isn't connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// We never heard of it.
    Unknown,
    /// It could not be reached for long, and isn't taken up again for so many milliseconds.
    GivenUp {
        /// Milliseconds until then.
        remaining: Millis,
    },
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
        /// How long it stays.
        stays: Stays,
    },
    /// Its link is being closed.
    Disconnecting,
    /// It is being dialed.
    Dialing {
        /// Where: one route or more.
        routes: Vec<String>,
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
    /// It is about to dial us.
    Expected {
        /// Milliseconds until we dial it all the same.
        remaining: Millis,
    },
    /// It is to be dialed, but enough is under way.
    Queued,
    /// It may be dialed, but the slots of its kind are taken.
    SlotsTaken {
        /// The kind.
        kind: Kind,
        /// How many slots there are.
        most: usize,
    },
    /// It may be dialed, but many dials have failed in a row.
    Braked {
        /// Milliseconds until the next dial.
        remaining: Millis,
    },
    /// It may be dialed once our log has caught up.
    Syncing,
    /// There is no network.
    Offline,
    /// It is to be dialed, but nobody is while the scheduler is stopped.
    SchedulerStopped,
    /// No address of it is known.
    NoRoute,
    /// The user disconnected it.
    DisconnectedByHand,
    /// The user doesn't want it dialed without being asked.
    NoAutoconnect,
    /// It is on the local network, and we don't follow it.
    Stranger,
    /// Nobody has asked for it.
    NotAskedFor,
}

/// How long a link stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// As long as it can: it is to be connected always.
    Held,
    /// Until it ends by itself.
    Open,
    /// Until others wait, after so many milliseconds.
    Until(Millis),
    /// Until a transfer is done; its time is over, or will be.
    Busy,
}

impl State {
    /// Why a peer is or isn't connected.
    pub fn why(&self, key: &FeedId) -> Why {
        if *key == self.own {
            return Why::OwnKey;
        }
        let Some(peer) = self.peer(key) else {
            let given_up = self.forgotten.get(key).map(|until| until.saturating_sub(self.now));
            return given_up
                .filter(|remaining| *remaining > 0)
                .map_or(Why::Unknown, |remaining| Why::GivenUp { remaining });
        };
        if let Some(link) = &peer.link {
            let since = self.now.saturating_sub(link.since);
            return match link.leaving {
                true => Why::Disconnecting,
                false => Why::Connected { by: link.direction, since, stays: self.stays(peer) },
            };
        }
        if !peer.dialing.is_empty() {
            return Why::Dialing { routes: peer.dialing.iter().map(|attempt| attempt.route.clone()).collect() };
        }
        match peer.place {
            _ if peer.banned => Why::Banned,
            Some(_) if !self.running && !peer.asked => Why::SchedulerStopped,
            Some(_) if !self.online && !peer.asked => Why::Offline,
            Some(Place::Due(when)) if peer.expected == Some(when) => {
                Why::Expected { remaining: when.saturating_sub(self.now) }
            }
            Some(Place::Due(when) | Place::Resting(when)) => Why::Pausing {
                remaining: when.saturating_sub(self.now),
                failures: peer.failures,
                error: peer.last_error.clone(),
            },
            Some(Place::Ready(ready)) => self.why_waiting(ready.lane()),
            None if peer.wanted == Some(false) => Why::DisconnectedByHand,
            None if peer.routes.is_empty() => Why::NoRoute,
            None if !peer.autoconnect => Why::NoAutoconnect,
            None if peer.routes.iter().any(|route| route.is_from(Source::Local)) => Why::Stranger,
            None => Why::NotAskedFor,
        }
    }

    fn stays(&self, peer: &Peer) -> Stays {
        match peer.ages {
            _ if peer.is_kept_connected() => Stays::Held,
            None | Some((_, Millis::MAX)) => Stays::Open,
            Some(_) if peer.is_busy(self.now, &self.settings) => Stays::Busy,
            Some((kind, when)) => Stays::Until(when.saturating_sub(self.hurry(kind)).saturating_sub(self.now)),
        }
    }

    fn why_waiting(&self, lane: Lane) -> Why {
        let Lane::Slot(kind) = lane else { return Why::Queued };
        let most = self.settings.slots(kind).most;
        if self.brake_until > self.now {
            Why::Braked { remaining: self.brake_until - self.now }
        } else if self.slots[kind] >= most {
            Why::SlotsTaken { kind, most }
        } else if self.syncing {
            Why::Syncing
        } else {
            Why::Queued
        }
    }
}

/// A time, for people.
struct Time(Millis);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_ceil(1000);
        match seconds {
            0..=180 => write!(f, "{seconds} s"),
            181..=10_800 => write!(f, "{} min", seconds.div_ceil(60)),
            10_801..=259_200 => write!(f, "{} h", seconds.div_ceil(3600)),
            _ => write!(f, "{} days", seconds.div_ceil(86_400)),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Unknown => f.write_str("not known"),
            Why::GivenUp { remaining } => {
                write!(f, "never reached and given up; not taken up again for {}", Time(*remaining))
            }
            Why::OwnKey => f.write_str("this is our own key"),
            Why::Banned => f.write_str("banned"),
            Why::Connected { by, since, stays } => {
                let by = if *by == Direction::Outgoing { "dialed by us" } else { "it dialed us" };
                write!(f, "connected for {}, {by}", Time(*since))?;
                match stays {
                    Stays::Held => f.write_str("; always to be connected"),
                    Stays::Open => Ok(()),
                    Stays::Busy => f.write_str("; transferring"),
                    Stays::Until(0) => f.write_str("; makes room when another peer waits"),
                    Stays::Until(when) => write!(f, "; may make room for others in {}", Time(*when)),
                }
            }
            Why::Disconnecting => f.write_str("its connection is being closed"),
            Why::Dialing { routes } => write!(f, "dialing {}", routes.join(" and ")),
            Why::Pausing { remaining, failures: 0, .. } => write!(f, "dialed again in {}", Time(*remaining)),
            Why::Pausing { remaining, failures, error } => {
                let times = if *failures == 1 { "failure" } else { "failures in a row" };
                write!(f, "dialed again in {}, after {failures} {times}", Time(*remaining))?;
                error.as_ref().map_or(Ok(()), |error| write!(f, "; the last: {error}"))
            }
            Why::Expected { remaining } => write!(f, "about to dial us; dialed in {} if it doesn't", Time(*remaining)),
            Why::Queued => f.write_str("to be dialed as soon as others are done"),
            Why::SlotsTaken { kind, most } => {
                write!(f, "waits for its turn: the {most} slots for {} peers are taken", kind.name())
            }
            Why::Braked { remaining } => {
                write!(f, "waits: many dials in a row have failed, the next one is in {}", Time(*remaining))
            }
            Why::Syncing => f.write_str("waits until our log has caught up"),
            Why::Offline => f.write_str("not dialed: there is no network"),
            Why::SchedulerStopped => f.write_str("not dialed: the scheduler is stopped"),
            Why::NoRoute => f.write_str("no address of it is known"),
            Why::DisconnectedByHand => f.write_str("disconnected by hand"),
            Why::NoAutoconnect => f.write_str("not dialed without being asked: autoconnect is off for it"),
            Why::Stranger => f.write_str("on the local network, but we don't follow it"),
            Why::NotAskedFor => f.write_str("nobody has asked for it"),
        }
    }
}
