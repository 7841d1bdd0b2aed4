//! What the peer manager should know of this machine and of the links: sleep, networks that come and go, transfers, and
//! how far behind the log is.
//!
//! [`Watch`] compares what is with what was a moment ago, and says what has happened. It looks at nothing itself.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use sbot_feed::FeedId;
use sbot_peer_manager::{Action, LinkId};

/// How often the machine is looked at, in milliseconds (ssb-conn: on-wakeup and on-change-network look as often).
pub(crate) const EVERY: u64 = 5_000;

/// Time that passed without the program running, in milliseconds, beyond which links are taken for dead: peers and
/// routers forget idle connections after minutes, but a machine that slept is likely elsewhere.
const SLEPT: u64 = 10_000;

/// Bytes between two looks that make a transfer; less is live messages and pings.
const TRANSFER: u64 = 64 * 1024;

/// Our log is far behind when connected peers have so many messages more,
const FAR_BEHIND: u64 = 1_000;

/// and has caught up when it lacks fewer than so many,
const CAUGHT_UP: u64 = 100;

/// or when it hasn't grown for so many looks: what peers claim to have may not come.
const STUCK: u32 = 12;

/// What is seen of the machine and the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Milliseconds since any moment, with those that the machine slept.
    pub(crate) uptime: u64,
    /// The same without them.
    pub(crate) awake: u64,
    /// The addresses of this machine, but for its own and those of a single cable.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Messages that connected peers have and we lack.
    pub(crate) behind: u64,
    /// Messages in our log.
    pub(crate) messages: u64,
    /// Bytes that went over each link, both ways.
    pub(crate) links: Vec<(LinkId, FeedId, u64)>,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    last: Option<Seen>,
    /// Bytes of each link, and whether something is being transferred.
    links: HashMap<LinkId, (u64, bool)>,
    syncing: bool,
    stuck: u32,
}

impl Watch {
    /// Takes a look and says what has happened since the last one.
    pub(crate) fn look(&mut self, seen: Seen) -> Vec<Action> {
        let mut happened = Vec::new();
        if let Some(last) = &self.last {
            let slept =
                (seen.uptime - last.uptime.min(seen.uptime)).saturating_sub(seen.awake - last.awake.min(seen.awake));
            if slept > SLEPT {
                happened.push(Action::SystemDidWake);
            }
            match (last.addresses.is_empty(), seen.addresses.is_empty()) {
                (false, true) => happened.push(Action::NetworkDidDisconnect),
                (true, false) => happened.push(Action::NetworkDidReconnect),
                _ if has_left(&last.addresses, &seen.addresses) => happened.push(Action::NetworkDidReconnect),
                _ => {}
            }
        }
        self.transfers(&seen, &mut happened);
        self.sync(&seen, &mut happened);
        self.last = Some(seen);
        happened
    }

    fn transfers(&mut self, seen: &Seen, happened: &mut Vec<Action>) {
        let mut links = HashMap::with_capacity(seen.links.len());
        for (link, peer, bytes) in &seen.links {
            // A new link begins at nothing: its first exchange is a transfer, too.
            let (before, was) = self.links.get(link).copied().unwrap_or_default();
            let is = bytes.saturating_sub(before) >= TRANSFER;
            let peer = *peer;
            match (was, is) {
                (false, true) => happened.push(Action::DownloadStarted { peer }),
                (true, true) => happened.push(Action::DownloadProgressed { peer }),
                (true, false) => happened.push(Action::DownloadFinished { peer }),
                (false, false) => {}
            }
            links.insert(*link, (*bytes, is));
        }
        self.links = links;
    }

    fn sync(&mut self, seen: &Seen, happened: &mut Vec<Action>) {
        let grew = self.last.as_ref().is_some_and(|last| seen.messages > last.messages);
        self.stuck = if grew { 0 } else { self.stuck.saturating_add(1) };
        if !self.syncing && seen.behind >= FAR_BEHIND && grew {
            self.syncing = true;
            happened.push(Action::InitialSyncStarted);
        } else if self.syncing && (seen.behind < CAUGHT_UP || self.stuck >= STUCK) {
            self.syncing = false;
            happened.push(Action::InitialSyncFinished);
        }
    }
}

/// Whether a network was left: an IPv4 address is gone, or all of an IPv6 network's (single ones change by the day).
fn has_left(before: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>) -> bool {
    let network = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V4(*ip),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    };
    let now: BTreeSet<IpAddr> = now.iter().map(network).collect();
    before.iter().any(|ip| !now.contains(&network(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: FeedId = FeedId([1; 32]);

    fn seen(looks: u64) -> Seen {
        Seen { uptime: looks * EVERY, awake: looks * EVERY, addresses: ips(&["192.168.1.5"]), ..Seen::default() }
    }

    fn ips(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_machine_that_slept_is_told_from_a_busy_one() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(seen(1)), []);
        // Late by a minute, but awake.
        assert_eq!(watch.look(seen(13)), []);
        let asleep = Seen { uptime: 14 * EVERY + 3_600_000, ..seen(14) };
        assert_eq!(watch.look(asleep), [Action::SystemDidWake]);
        assert_eq!(watch.look(Seen { uptime: 15 * EVERY + 3_600_000, ..seen(15) }), []);
    }

    #[test]
    fn networks_that_go_and_come_back_are_noticed_and_new_ones_beside_the_old_are_not() {
        let mut watch = Watch::default();
        let mut at = |addresses: &[&str]| watch.look(Seen { addresses: ips(addresses), ..seen(1) });
        assert_eq!(at(&[]), [], "no network at the start is no loss of one");
        assert_eq!(at(&["192.168.1.5"]), [Action::NetworkDidReconnect]);
        assert_eq!(at(&["192.168.1.5", "10.0.0.1"]), []);
        assert_eq!(at(&["10.0.0.1"]), [Action::NetworkDidReconnect]);
        assert_eq!(at(&[]), [Action::NetworkDidDisconnect]);
        assert_eq!(at(&["2001:db8::1", "2001:db8::2"]), [Action::NetworkDidReconnect]);
        assert_eq!(at(&["2001:db8::3"]), [], "still the same network");
        assert_eq!(at(&["2001:db8:1::3"]), [Action::NetworkDidReconnect]);
    }

    #[test]
    fn many_bytes_are_a_transfer_and_few_are_not() {
        let mut watch = Watch::default();
        let mut at = |bytes| watch.look(Seen { links: vec![(LinkId(1), PEER, bytes)], ..seen(1) });
        assert_eq!(at(100), []);
        assert_eq!(at(TRANSFER + 100), [Action::DownloadStarted { peer: PEER }]);
        assert_eq!(at(3 * TRANSFER), [Action::DownloadProgressed { peer: PEER }]);
        assert_eq!(at(3 * TRANSFER + 5_000), [Action::DownloadFinished { peer: PEER }]);
        assert_eq!(at(3 * TRANSFER + 9_000), []);
    }

    #[test]
    fn a_log_that_is_far_behind_and_grows_is_syncing_until_it_has_caught_up_or_is_stuck() {
        let mut watch = Watch::default();
        let mut at = |behind, messages| watch.look(Seen { behind, messages, ..seen(1) });
        assert_eq!(at(1 << 31, 0), [], "what is merely claimed holds nothing up");
        assert_eq!(at(5_000, 10), [Action::InitialSyncStarted]);
        assert_eq!(at(500, 4_510), []);
        assert_eq!(at(99, 4_911), [Action::InitialSyncFinished]);
        assert_eq!(at(5_000, 4_912), [Action::InitialSyncStarted]);
        let stuck: Vec<_> = (0..STUCK).flat_map(|_| at(5_000, 4_912)).collect();
        assert_eq!(stuck, [Action::InitialSyncFinished]);
    }
}
