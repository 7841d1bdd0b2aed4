//! Who may come in, and who asks for too much.
//!
//! No clock of its own: times are microseconds of any clock that never goes back.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::limits::Limits;
use crate::request::Refused;

/// The time over which requests and bytes are counted, in µs.
const SPAN: u64 = 10_000_000;
/// Most addresses whose requests are remembered in such a time; each takes some fifty bytes. With more of them the older
/// half is forgotten early, and starts anew.
const MOST_ASKERS: usize = 16_384;

/// What is open, and who has asked how much lately, by address.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    connections: HashMap<IpAddr, usize>,
    connected: usize,
    subscribers: HashMap<IpAddr, usize>,
    subscribed: usize,
    /// Of this span and the last one. What is older needs no remembering: it has been allowed again since.
    askers: [HashMap<IpAddr, Asker>; 2],
    since: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Asker {
    requests: Debt,
    bytes: Debt,
}

/// When what was asked for will have been allowed, in µs: a leaky bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Debt(u64);

impl Debt {
    fn is_high(self, now: u64) -> bool {
        self.0.saturating_sub(now) >= SPAN
    }

    fn add(&mut self, amount: u64, per_second: u32, now: u64) {
        let cost = amount.saturating_mul(1_000_000) / u64::from(per_second.max(1));
        self.0 = self.0.max(now).saturating_add(cost);
    }
}

impl Gate {
    /// Connections that are open.
    pub(crate) fn connected(&self) -> usize {
        self.connected
    }

    /// Somebody connects; `exempt` from the limit for one address are proxies, which come for many. Answers whether it
    /// may; then [`Gate::disconnect`] must follow.
    pub(crate) fn connect(&mut self, from: IpAddr, exempt: bool, limits: &Limits) -> bool {
        if self.connected >= limits.connections {
            return false;
        }
        let free = enter(&mut self.connections, from, if exempt { usize::MAX } else { limits.connections_per_address });
        self.connected += usize::from(free);
        free
    }

    /// A connection has ended.
    pub(crate) fn disconnect(&mut self, from: IpAddr) {
        self.connected -= usize::from(leave(&mut self.connections, from));
    }

    /// Somebody subscribes. If it may, [`Gate::unsubscribe`] must follow.
    pub(crate) fn subscribe(&mut self, from: IpAddr, limits: &Limits) -> Result<(), Refused> {
        if self.subscribed >= limits.subscribers {
            return Err(Refused::Full);
        }
        if !enter(&mut self.subscribers, from, limits.subscribers_per_address) {
            return Err(Refused::Crowded);
        }
        self.subscribed += 1;
        Ok(())
    }

    /// A subscription has ended.
    pub(crate) fn unsubscribe(&mut self, from: IpAddr) {
        self.subscribed -= usize::from(leave(&mut self.subscribers, from));
    }

    /// Somebody makes a request.
    pub(crate) fn ask(&mut self, from: IpAddr, now: u64, limits: &Limits) -> Result<(), Refused> {
        let asker = self.asker(from, now);
        if asker.requests.is_high(now) || asker.bytes.is_high(now) {
            return Err(Refused::Busy);
        }
        asker.requests.add(1, limits.requests, now);
        Ok(())
    }

    /// It has sent so many bytes.
    pub(crate) fn sent(&mut self, from: IpAddr, bytes: usize, now: u64, limits: &Limits) {
        self.asker(from, now).bytes.add(bytes as u64, limits.bytes, now);
    }

    fn asker(&mut self, from: IpAddr, now: u64) -> &mut Asker {
        let [new, old] = &mut self.askers;
        if now.saturating_sub(self.since) >= SPAN || new.len() >= MOST_ASKERS {
            *old = std::mem::take(new);
            self.since = now;
        }
        new.entry(from).or_insert_with(|| old.remove(&from).unwrap_or_default())
    }
}

/// Counts one more of an address, if it may have one more.
fn enter(counts: &mut HashMap<IpAddr, usize>, from: IpAddr, most: usize) -> bool {
    let count = counts.entry(from).or_default();
    let free = *count < most;
    *count += usize::from(free);
    if *count == 0 {
        counts.remove(&from);
    }
    free
}

/// Counts one less; answers whether there was one.
fn leave(counts: &mut HashMap<IpAddr, usize>, from: IpAddr) -> bool {
    let Some(count) = counts.get_mut(&from) else { return false };
    *count -= 1;
    if *count == 0 {
        counts.remove(&from);
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn who_asks_too_much_waits_and_others_dont() {
        let (mut gate, limits) = (Gate::default(), Limits { requests: 5, ..Limits::default() });
        let at_once = (0..1_000).filter(|_| gate.ask(host(1), 0, &limits).is_ok()).count();
        assert_eq!(at_once, 50, "ten seconds' worth");
        assert_eq!(gate.ask(host(2), 0, &limits), Ok(()));
        let later = (0..1_000).filter(|_| gate.ask(host(1), 2_000_000, &limits).is_ok()).count();
        assert_eq!(later, 10, "two seconds' worth");
    }

    #[test]
    fn bytes_count_too_and_one_message_is_always_allowed() {
        let (mut gate, limits) = (Gate::default(), Limits { bytes: 100, ..Limits::default() });
        assert_eq!(gate.ask(host(1), 0, &limits), Ok(()));
        gate.sent(host(1), 2_000, 0, &limits);
        assert_eq!(gate.ask(host(1), 9_000_000, &limits), Err(Refused::Busy));
        assert_eq!(gate.ask(host(1), 11_000_000, &limits), Ok(()));
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let (mut gate, limits) = (Gate::default(), Limits::default());
        for number in 0..200_000 {
            assert_eq!(gate.ask(host(number), 0, &limits), Ok(()));
        }
        assert!(gate.askers.iter().all(|askers| askers.len() <= MOST_ASKERS));
    }

    #[test]
    fn one_address_cant_take_all_places() {
        let limits = Limits { subscribers: 5, subscribers_per_address: 3, ..Limits::default() };
        let mut gate = Gate::default();
        let taken = (0..10).filter(|_| gate.subscribe(host(1), &limits).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(gate.subscribe(host(1), &limits), Err(Refused::Crowded));
        assert_eq!(gate.subscribe(host(2), &limits), Ok(()));
        assert_eq!(gate.subscribe(host(2), &limits), Ok(()));
        assert_eq!(gate.subscribe(host(3), &limits), Err(Refused::Full));
        gate.unsubscribe(host(1));
        assert_eq!(gate.subscribe(host(3), &limits), Ok(()));
    }

    proptest! {
        #[test]
        fn connections_are_never_more_than_allowed_and_none_is_counted_for_ever(
            steps in proptest::collection::vec((0u32..4, any::<bool>()), 0..200)
        ) {
            let limits = Limits { connections: 10, connections_per_address: 4, ..Limits::default() };
            let (mut gate, mut open) = (Gate::default(), Vec::new());
            for (number, connects) in steps {
                if connects {
                    if gate.connect(host(number), number == 0, &limits) {
                        open.push(number);
                    }
                } else if let Some(at) = open.iter().position(|one| *one == number) {
                    open.swap_remove(at);
                    gate.disconnect(host(number));
                }
                prop_assert_eq!(gate.connected(), open.len());
                prop_assert!(open.len() <= 10);
                for one in 1..4 {
                    prop_assert!(open.iter().filter(|other| **other == one).count() <= 4);
                }
            }
            for number in open {
                gate.disconnect(host(number));
            }
            prop_assert!(gate.connected() == 0 && gate.connections.is_empty());
        }
    }
}
