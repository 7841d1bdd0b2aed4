//! Replication by `createHistoryStream`: which feeds to ask of a peer without EBT, and when.
//!
//! First every feed is fetched as far as the peer has it, a few at a time: streams that all run at once would make us
//! keep a piece of each. Then each gets a stream that stays open for what comes later. Peers bound how many calls may be
//! open; feeds beyond that are asked again now and then.
//!
//! Source: ssb-replicate `legacy.js`, which opens one live stream a feed, all at once.

use std::collections::{BTreeMap, HashMap, VecDeque};

use sbot_feed::FeedId;

/// Streams of old messages that are open at a time.
pub const CATCHING_UP: usize = 16;

/// Live streams that are open at a time: peers of our kind take 1,024 calls, and something has to remain for others.
pub const LIVE: usize = 800;

/// How soon a feed is asked for again that has no live stream, or whose stream ended, in ms.
pub const AGAIN: u64 = 60_000;

/// One stream to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Which feed, from the message after our newest.
    pub feed: FeedId,
    /// Whether to keep it open for what comes later.
    pub live: bool,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By the peer, and all it brought was good.
    Well,
    /// By an error of theirs or ours that has nothing to do with the messages.
    Broken,
    /// What it brought was no good.
    Bad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    CatchingUp,
    ToBeLive,
    Live,
    /// To be asked again at this time.
    Later(u64),
    /// The peer's messages were no good.
    Failed,
    /// Open, but to be forgotten once it ends.
    Unwanted,
}

/// What is under way with one peer.
#[derive(Debug, Default)]
pub struct Plan {
    feeds: HashMap<FeedId, Stage>,
    waiting: VecDeque<FeedId>,
    to_be_live: VecDeque<FeedId>,
    later: BTreeMap<u64, Vec<FeedId>>,
    catching_up: usize,
    live: usize,
}

impl Plan {
    /// Nothing to fetch yet.
    #[must_use]
    pub fn new() -> Plan {
        Plan::default()
    }

    /// A feed is wanted. Feeds are asked for in the order in which they become so.
    pub fn want(&mut self, feed: FeedId) {
        match self.feeds.get_mut(&feed) {
            None => {
                self.feeds.insert(feed, Stage::Waiting);
                self.waiting.push_back(feed);
            }
            // wanted again while its last stream is still open
            Some(stage @ Stage::Unwanted) => *stage = Stage::CatchingUp,
            Some(_) => {}
        }
    }

    /// A feed is not wanted any more; close its stream, and tell [`Plan::ended`] of it, if this answers true.
    pub fn unwant(&mut self, feed: &FeedId) -> bool {
        match self.feeds.get_mut(feed) {
            Some(stage @ Stage::CatchingUp) => {
                *stage = Stage::Unwanted;
                true
            }
            Some(Stage::Live) => {
                // counted as any that is still open
                self.live -= 1;
                self.catching_up += 1;
                self.feeds.insert(*feed, Stage::Unwanted);
                true
            }
            Some(Stage::Unwanted) | None => false,
            Some(_) => {
                self.feeds.remove(feed);
                false
            }
        }
    }

    /// The next stream to open at this time (ms), if one may be.
    pub fn next(&mut self, now: u64) -> Option<Ask> {
        while let Some(due) = self.later.first_entry().filter(|due| *due.key() <= now) {
            for feed in due.remove() {
                if let Some(stage @ Stage::Later(_)) = self.feeds.get_mut(&feed) {
                    *stage = Stage::Waiting;
                    self.waiting.push_back(feed);
                }
            }
        }
        while self.catching_up < CATCHING_UP
            && let Some(feed) = self.waiting.pop_front()
        {
            if let Some(stage @ Stage::Waiting) = self.feeds.get_mut(&feed) {
                *stage = Stage::CatchingUp;
                self.catching_up += 1;
                return Some(Ask { feed, live: false });
            }
        }
        // streams that stay open come last: all that is there already goes first
        while self.waiting.is_empty()
            && self.catching_up < CATCHING_UP
            && let Some(feed) = self.to_be_live.pop_front()
        {
            let Some(stage @ Stage::ToBeLive) = self.feeds.get_mut(&feed) else { continue };
            if self.live < LIVE {
                *stage = Stage::Live;
                self.live += 1;
                return Some(Ask { feed, live: true });
            }
            self.later(feed, now);
        }
        None
    }

    fn later(&mut self, feed: FeedId, now: u64) {
        self.feeds.insert(feed, Stage::Later(now + AGAIN));
        self.later.entry(now + AGAIN).or_default().push(feed);
    }

    /// A stream has ended, at this time (ms).
    pub fn ended(&mut self, feed: &FeedId, how: End, now: u64) {
        let Some(stage) = self.feeds.get_mut(feed) else { return };
        let was = *stage;
        match was {
            Stage::CatchingUp => self.catching_up -= 1,
            Stage::Live => self.live -= 1,
            Stage::Unwanted => {
                self.catching_up -= 1;
                self.feeds.remove(feed);
                return;
            }
            _ => return,
        }
        match how {
            End::Bad => *stage = Stage::Failed,
            End::Well if was == Stage::CatchingUp => {
                *stage = Stage::ToBeLive;
                self.to_be_live.push_back(*feed);
            }
            // live streams don't end by themselves
            End::Well | End::Broken => self.later(*feed, now),
        }
    }

    /// When [`Plan::next`] may have something that it doesn't have now (ms).
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        self.later.first_key_value().map(|(time, _)| *time)
    }

    /// Streams that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.catching_up + self.live
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u16) -> FeedId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_le_bytes());
        FeedId(id)
    }

    #[test]
    fn all_feeds_catch_up_a_few_at_a_time_and_then_stay_open() {
        let mut plan = Plan::new();
        (0..40).for_each(|feed| plan.want(id(feed)));
        let mut asked = Vec::new();
        let mut open = VecDeque::new();
        loop {
            while let Some(ask) = plan.next(0) {
                assert!(!ask.live || asked.len() >= 40, "live streams come last");
                asked.push(ask);
                if !ask.live {
                    open.push_back(ask.feed);
                }
            }
            assert!(open.len() <= CATCHING_UP);
            let Some(feed) = open.pop_front() else { break };
            plan.ended(&feed, End::Well, 0);
        }
        assert_eq!(asked.len(), 80);
        assert_eq!(plan.open(), 40);
        assert_eq!(plan.wake_at(), None);
    }

    #[test]
    fn feeds_beyond_the_bound_of_live_streams_are_asked_again_later() {
        let mut plan = Plan::new();
        let count = LIVE as u16 + 5;
        (0..count).for_each(|feed| plan.want(id(feed)));
        let mut asked = 0;
        while let Some(ask) = plan.next(0) {
            asked += 1;
            if !ask.live {
                plan.ended(&ask.feed, End::Well, 0);
            }
        }
        assert_eq!(asked, usize::from(count) + LIVE);
        assert_eq!(plan.open(), LIVE);
        assert_eq!(plan.wake_at(), Some(AGAIN));
        assert_eq!(plan.next(AGAIN - 1), None);
        assert!(matches!(plan.next(AGAIN), Some(Ask { live: false, .. })));
    }

    #[test]
    fn a_feed_whose_messages_are_no_good_is_left_alone_and_one_whose_stream_broke_is_asked_again() {
        let mut plan = Plan::new();
        plan.want(id(1));
        assert_eq!(plan.next(0), Some(Ask { feed: id(1), live: false }));
        plan.ended(&id(1), End::Broken, 5);
        assert_eq!(plan.next(AGAIN), None);
        assert_eq!(plan.next(AGAIN + 5), Some(Ask { feed: id(1), live: false }));
        plan.ended(&id(1), End::Bad, 0);
        plan.want(id(1));
        assert_eq!(plan.next(1_000_000), None);
    }

    proptest! {
        #[test]
        fn streams_are_counted_right_whatever_happens(
            acts in proptest::collection::vec((0u16..40, 0u8..5), 0..400)
        ) {
            let mut plan = Plan::new();
            let mut open: Vec<FeedId> = Vec::new();
            let mut now = 0;
            for (feed, act) in acts {
                match act {
                    0 => plan.want(id(feed)),
                    1 => { plan.unwant(&id(feed)); }
                    2 => if let Some(ask) = plan.next(now) {
                        prop_assert!(!open.contains(&ask.feed), "two streams of one feed");
                        open.push(ask.feed);
                    },
                    3 => now += 30_000,
                    _ => if let Some(at) = open.iter().position(|open| *open == id(feed)) {
                        open.swap_remove(at);
                        plan.ended(&id(feed), [End::Well, End::Broken, End::Bad][usize::from(feed % 3)], now);
                    },
                }
                prop_assert_eq!(plan.open(), open.len());
            }
        }
    }
}
