//! Who is subscribed to what, and what waits for whom.
//!
//! A message goes into the queue of every subscriber of its channel. Whoever carries it out takes it from there
//! ([`Board::take`]) when the subscriber has room for more. Who doesn't read is dropped: by a queue that is too long, by
//! having taken nothing between two heartbeats, or, when too much waits in all, by having the longest queue.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::Limits;

/// A comment that tells subscribers, and whatever lies between, that the connection lives (as in signalhub).
const HEARTBEAT: &[u8] = b":heartbeat signal\n\n";

/// Names a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Subscription(u64);

/// What a subscriber is to get next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This.
    Event(Bytes),
    /// Nothing yet; it will be woken.
    Wait,
    /// Nothing any more.
    Ended,
}

#[derive(Debug)]
struct Subscriber {
    channels: Vec<Box<str>>,
    queue: VecDeque<Bytes>,
    waiting: usize,
    /// Something was taken since the last heartbeat, or there was nothing to take.
    reads: bool,
    waker: Option<Waker>,
    /// Breaks its connection off.
    break_off: Arc<Notify>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Board {
    subscribers: HashMap<Subscription, Subscriber>,
    channels: HashMap<Box<str>, BTreeSet<Subscription>>,
    next: u64,
    waiting: usize,
    subscriptions: usize,
    slow: u64,
    closed: bool,
}

impl Board {
    /// Subscriptions to channels: one subscriber may have several.
    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Those who are subscribed.
    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Channels that somebody is subscribed to.
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Bytes that wait, in all.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many were dropped because they were too slow.
    pub(crate) fn slow(&self) -> u64 {
        self.slow
    }

    /// Somebody subscribes to these channels, each of which is named once. `break_off` is told when it is dropped.
    pub(crate) fn subscribe(&mut self, channels: Vec<Box<str>>, break_off: Arc<Notify>) -> Subscription {
        let subscription = Subscription(self.next);
        self.next += 1;
        for channel in &channels {
            self.channels.entry(channel.clone()).or_default().insert(subscription);
        }
        self.subscriptions += channels.len();
        let subscriber =
            Subscriber { channels, queue: VecDeque::new(), waiting: 0, reads: true, waker: None, break_off };
        self.subscribers.insert(subscription, subscriber);
        subscription
    }

    /// A subscriber has gone, of itself or because it was dropped.
    pub(crate) fn unsubscribe(&mut self, subscription: Subscription) {
        let Some(gone) = self.subscribers.remove(&subscription) else { return };
        self.waiting -= gone.waiting;
        self.subscriptions -= gone.channels.len();
        for channel in gone.channels {
            if let Some(those) = self.channels.get_mut(&channel) {
                those.remove(&subscription);
                if those.is_empty() {
                    self.channels.remove(&channel);
                }
            }
        }
    }

    /// Passes a message on to everyone who is subscribed to `channel`; answers how many that are.
    pub(crate) fn publish(&mut self, channel: &str, message: &[u8], limits: &Limits) -> usize {
        let Some(those) = self.channels.get(channel) else { return 0 };
        let those: Vec<Subscription> = those.iter().copied().collect();
        let event = event(message);
        those.into_iter().filter(|subscription| self.push(*subscription, &event, limits)).count()
    }

    /// Sends a heartbeat to everyone for whom nothing waits, and drops who has taken nothing since the last one.
    pub(crate) fn heartbeat(&mut self, limits: &Limits) {
        let those: Vec<Subscription> = self.subscribers.keys().copied().collect();
        let event = Bytes::from_static(HEARTBEAT);
        for subscription in those {
            let Some(subscriber) = self.subscribers.get_mut(&subscription) else { continue };
            if subscriber.queue.is_empty() {
                self.push(subscription, &event, limits);
            } else if !std::mem::replace(&mut subscriber.reads, false) {
                self.drop_slow(subscription);
            }
        }
    }

    /// What `subscription` is to get next. If there is nothing, `waker` is woken when there is.
    pub(crate) fn take(&mut self, subscription: Subscription, waker: &Waker) -> Next {
        let Some(subscriber) = self.subscribers.get_mut(&subscription) else { return Next::Ended };
        if let Some(event) = subscriber.queue.pop_front() {
            subscriber.waiting -= event.len();
            self.waiting -= event.len();
            subscriber.reads = true;
            return Next::Event(event);
        }
        if self.closed {
            return Next::Ended;
        }
        subscriber.waker = Some(waker.clone());
        Next::Wait
    }

    /// Ends all subscriptions as soon as what waits has been taken.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for subscriber in self.subscribers.values_mut() {
            subscriber.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Lets an event wait for a subscriber; answers whether it does.
    fn push(&mut self, subscription: Subscription, event: &Bytes, limits: &Limits) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(&subscription) else { return false };
        // One message always has room, however long.
        if subscriber.waiting > 0 && subscriber.waiting + event.len() > limits.waiting {
            self.drop_slow(subscription);
            return false;
        }
        if subscriber.queue.is_empty() {
            subscriber.reads = true;
        }
        subscriber.queue.push_back(event.clone());
        subscriber.waiting += event.len();
        self.waiting += event.len();
        subscriber.waker.take().into_iter().for_each(Waker::wake);
        if self.waiting > limits.waiting_in_all
            && let Some(slowest) = self.slowest()
        {
            self.drop_slow(slowest);
            return slowest != subscription;
        }
        true
    }

    fn slowest(&self) -> Option<Subscription> {
        let waiting = |(_, subscriber): &(&Subscription, &Subscriber)| subscriber.waiting;
        self.subscribers.iter().max_by_key(waiting).map(|(subscription, _)| *subscription)
    }

    fn drop_slow(&mut self, subscription: Subscription) {
        if let Some(subscriber) = self.subscribers.get(&subscription) {
            subscriber.break_off.notify_one();
            self.slow += 1;
            self.unsubscribe(subscription);
        }
    }
}

/// A message as an event of a stream (HTML standard, 9.2.6): a line each of its own, so that line breaks in it can't
/// pass for the end of the event. What isn't UTF-8 is replaced, as signalhub does.
fn event(message: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(message);
    let mut event = String::with_capacity(text.len() + 8);
    let mut rest = &*text;
    loop {
        let end = rest.find(['\r', '\n']);
        event.push_str("data: ");
        event.push_str(&rest[..end.unwrap_or(rest.len())]);
        event.push('\n');
        let Some(end) = end else { break };
        rest = &rest[end..];
        rest = rest.strip_prefix("\r\n").unwrap_or_else(|| &rest[1..]);
    }
    event.push('\n');
    event.into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct World {
        board: Board,
        limits: Limits,
    }

    impl World {
        fn subscribe(&mut self, channels: &[&str]) -> Subscription {
            self.board.subscribe(channels.iter().map(|name| (*name).into()).collect(), Arc::default())
        }

        fn publish(&mut self, channel: &str, message: &str) -> usize {
            self.board.publish(channel, message.as_bytes(), &self.limits)
        }

        fn take(&mut self, subscription: Subscription) -> Option<String> {
            match self.board.take(subscription, Waker::noop()) {
                Next::Event(event) => Some(String::from_utf8(event.to_vec()).unwrap()),
                Next::Wait | Next::Ended => None,
            }
        }
    }

    #[test]
    fn a_message_reaches_all_of_its_channel_and_nobody_else_and_is_not_kept() {
        let mut world = World::default();
        assert_eq!(world.publish("a/x", "early"), 0);
        let (one, two, other) =
            (world.subscribe(&["a/x", "a/y"]), world.subscribe(&["a/x"]), world.subscribe(&["b/x"]));
        assert_eq!(world.publish("a/x", "{}"), 2);
        assert_eq!(world.publish("a/y", "[]"), 1);
        assert_eq!(
            [world.take(one), world.take(one), world.take(one)],
            [Some("data: {}\n\n".into()), Some("data: []\n\n".into()), None]
        );
        assert_eq!([world.take(two), world.take(two), world.take(other)], [Some("data: {}\n\n".into()), None, None]);
        world.board.unsubscribe(one);
        assert_eq!((world.publish("a/y", "{}"), world.board.channels()), (0, 2));
    }

    #[test]
    fn line_breaks_in_a_message_cant_end_its_event() {
        for (message, sent) in [
            ("", "data: \n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n\n"),
            ("\n\ndata: forged\n\n", "data: \ndata: \ndata: data: forged\ndata: \ndata: \n\n"),
        ] {
            assert_eq!(event(message.as_bytes()), sent.as_bytes(), "{message:?}");
        }
        assert_eq!(event(b"\xff!"), "data: \u{fffd}!\n\n".as_bytes());
    }

    #[test]
    fn who_doesnt_read_is_dropped_and_others_get_everything() {
        let mut world = World { limits: Limits { waiting: 1_000, ..Limits::default() }, ..World::default() };
        let (slow, fast) = (world.subscribe(&["x"]), world.subscribe(&["x"]));
        let mut got = 0;
        for _ in 0..100 {
            world.publish("x", &"m".repeat(92));
            got += usize::from(world.take(fast).is_some());
        }
        assert_eq!((got, world.board.slow(), world.board.subscribers()), (100, 1, 1));
        assert_eq!((world.take(slow), world.board.waiting()), (None, 0));
    }

    #[test]
    fn one_message_longer_than_the_queue_has_room() {
        let mut world = World { limits: Limits { waiting: 10, ..Limits::default() }, ..World::default() };
        let one = world.subscribe(&["x"]);
        assert_eq!(world.publish("x", "longer than ten bytes"), 1);
        assert_eq!(world.take(one).as_deref(), Some("data: longer than ten bytes\n\n"));
    }

    #[test]
    fn when_too_much_waits_in_all_whoever_is_furthest_behind_is_dropped() {
        let mut world = World { limits: Limits { waiting_in_all: 1_000, ..Limits::default() }, ..World::default() };
        let (slow, fast) = (world.subscribe(&["x"]), world.subscribe(&["y"]));
        world.publish("x", &"m".repeat(900));
        world.publish("y", &"m".repeat(200));
        assert!(world.take(slow).is_none() && world.take(fast).is_some());
        assert_eq!((world.board.slow(), world.board.waiting()), (1, 0));
    }

    #[test]
    fn heartbeats_go_to_all_and_drop_who_has_taken_nothing_since_the_last() {
        let mut world = World::default();
        let (dead, alive) = (world.subscribe(&["x"]), world.subscribe(&["x"]));
        for beat in 0..3 {
            world.board.heartbeat(&world.limits);
            assert_eq!(world.take(alive).as_deref(), Some(":heartbeat signal\n\n"), "{beat}");
        }
        assert_eq!((world.board.subscribers(), world.board.slow()), (1, 1));
        assert_eq!(world.board.take(dead, Waker::noop()), Next::Ended);
    }

    #[test]
    fn closed_everyone_gets_what_waits_and_then_the_end() {
        let mut world = World::default();
        let one = world.subscribe(&["x"]);
        world.publish("x", "{}");
        world.board.close();
        assert_eq!(world.take(one).as_deref(), Some("data: {}\n\n"));
        assert_eq!(world.board.take(one, Waker::noop()), Next::Ended);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Subscribe(Vec<u8>),
        Unsubscribe(usize),
        Publish(u8, usize),
        Take(usize),
        Heartbeat,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            proptest::collection::btree_set(0u8..4, 1..4).prop_map(|set| Step::Subscribe(set.into_iter().collect())),
            (0usize..8).prop_map(Step::Unsubscribe),
            (0u8..4, 0usize..300).prop_map(|(channel, length)| Step::Publish(channel, length)),
            (0usize..8).prop_map(Step::Take),
            Just(Step::Heartbeat),
        ];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        #[test]
        fn whatever_happens_bounds_hold_and_who_is_not_dropped_gets_all_in_order(steps in steps()) {
            let limits = Limits { waiting: 800, waiting_in_all: 2_000, ..Limits::default() };
            let mut board = Board::default();
            let mut all: Vec<(Subscription, Vec<Box<str>>)> = Vec::new();
            let mut due: HashMap<Subscription, VecDeque<Bytes>> = HashMap::new();
            let name = |channel: u8| Box::<str>::from(channel.to_string());
            for step in steps {
                match step {
                    Step::Subscribe(channels) => {
                        let channels: Vec<_> = channels.into_iter().map(name).collect();
                        let one = board.subscribe(channels.clone(), Arc::default());
                        all.push((one, channels));
                        due.insert(one, VecDeque::new());
                    }
                    Step::Unsubscribe(at) => {
                        if at < all.len() {
                            let (one, _) = all.swap_remove(at);
                            board.unsubscribe(one);
                            due.remove(&one);
                        }
                    }
                    Step::Publish(channel, length) => {
                        let message = "m".repeat(length);
                        board.publish(&name(channel), message.as_bytes(), &limits);
                        for (one, channels) in &all {
                            if channels.contains(&name(channel)) {
                                due.get_mut(one).unwrap().push_back(event(message.as_bytes()));
                            }
                        }
                    }
                    Step::Heartbeat => {
                        let beats: Vec<_> = board.subscribers.iter().filter(|(_, one)| one.queue.is_empty()).map(|(one, _)| *one).collect();
                        board.heartbeat(&limits);
                        beats.iter().for_each(|one| due.get_mut(one).unwrap().push_back(Bytes::from_static(HEARTBEAT)));
                    }
                    Step::Take(at) => {
                        if let Some((one, _)) = all.get(at) {
                            match board.take(*one, Waker::noop()) {
                                Next::Event(event) => prop_assert_eq!(Some(event), due.get_mut(one).unwrap().pop_front()),
                                Next::Wait => prop_assert!(due[one].is_empty()),
                                Next::Ended => prop_assert!(!board.subscribers.contains_key(one)),
                            }
                        }
                    }
                }
                all.retain(|(one, _)| board.subscribers.contains_key(one));
                prop_assert!(board.waiting() <= 2_000);
                prop_assert_eq!(board.waiting(), board.subscribers.values().map(|one| one.queue.iter().map(Bytes::len).sum::<usize>()).sum::<usize>());
                prop_assert_eq!(board.subscriptions(), board.subscribers.values().map(|one| one.channels.len()).sum::<usize>());
                prop_assert_eq!(board.subscriptions(), board.channels.values().map(BTreeSet::len).sum::<usize>());
                prop_assert!(board.channels.values().all(|those| !those.is_empty()));
            }
        }
    }
}
