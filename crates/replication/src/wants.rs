//! Which feeds are wanted: those near enough in the social graph, and those asked for by hand.

use std::collections::{HashMap, HashSet};

use sbot_feed::FeedId;

/// The feeds that are wanted, and why.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    near: HashSet<FeedId>,
    /// Asked for, or not to be had, whatever the graph says.
    by_hand: HashMap<FeedId, bool>,
}

impl Wants {
    /// None but those asked for by hand later.
    #[must_use]
    pub fn new() -> Wants {
        Wants::default()
    }

    /// The graph says how far feeds are: those from 0 to `max` hops are wanted. Answers what changes.
    pub fn set_hops(&mut self, hops: impl IntoIterator<Item = (FeedId, i32)>, max: i32) -> Vec<(FeedId, bool)> {
        let near = hops.into_iter().filter(|(_, hops)| (0..=max).contains(hops)).map(|(feed, _)| feed).collect();
        let before = std::mem::replace(&mut self.near, near);
        let free = |feed: &&FeedId| !self.by_hand.contains_key(*feed);
        let gone = before.difference(&self.near).filter(free).map(|feed| (*feed, false));
        let new = self.near.difference(&before).filter(free).map(|feed| (*feed, true));
        gone.chain(new).collect()
    }

    /// A feed is wanted, or not, whatever the graph says. Answers whether that changes anything.
    pub fn request(&mut self, feed: FeedId, wanted: bool) -> bool {
        let before = self.wants(&feed);
        self.by_hand.insert(feed, wanted);
        before != wanted
    }

    /// Whether a feed is wanted.
    #[must_use]
    pub fn wants(&self, feed: &FeedId) -> bool {
        self.by_hand.get(feed).copied().unwrap_or_else(|| self.near.contains(feed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> FeedId {
        FeedId([number; 32])
    }

    #[test]
    fn feeds_within_reach_are_wanted_and_blocked_ones_are_not() {
        let mut wants = Wants::new();
        let mut changes = wants.set_hops([(id(1), 0), (id(2), 3), (id(3), 4), (id(4), -1), (id(5), -2)], 3);
        changes.sort_unstable();
        assert_eq!(changes, [(id(1), true), (id(2), true)]);
        assert_eq!(wants.set_hops([(id(1), 0), (id(4), 2)], 3).len(), 2);
        assert!(!wants.wants(&id(2)) && wants.wants(&id(4)));
    }

    #[test]
    fn what_is_asked_for_by_hand_stays_whatever_the_graph_says() {
        let mut wants = Wants::new();
        assert!(wants.request(id(7), true));
        assert!(!wants.request(id(7), true));
        assert_eq!(wants.set_hops([(id(7), -1)], 3), []);
        assert!(wants.wants(&id(7)));
        assert!(wants.request(id(7), false));
        assert_eq!(wants.set_hops([(id(7), 1)], 3), []);
        assert!(!wants.wants(&id(7)));
    }
}
