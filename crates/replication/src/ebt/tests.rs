//! The state machine by hand and in a simulated network: nodes whose logs are counters, connections that are queues.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use proptest::prelude::*;
use sbot_feed::FeedId;

use super::*;

fn id(number: u8) -> FeedId {
    FeedId([number; 32])
}

fn notes(list: &[(u8, i64)]) -> Notes {
    let notes =
        list.iter().map(|(feed, note)| (id(*feed), Note::from_number(*note as f64).expect("a valid note"))).collect();
    Notes { notes, ignored: 0 }
}

/// What goes out next, as feed → number; `None` for nothing.
fn said(ebt: &mut Ebt, link: Link) -> Option<BTreeMap<u8, i64>> {
    Some(ebt.take_notes(link)?.into_iter().map(|(feed, note)| (feed.0[0], note.to_number())).collect())
}

fn says(list: &[(u8, i64)]) -> Option<BTreeMap<u8, i64>> {
    Some(list.iter().copied().collect())
}

fn ebt(wants: &[(u8, u64)]) -> Ebt {
    let mut ebt = Ebt::new(id(0), 0, Settings::default());
    for (feed, have) in wants {
        ebt.want(id(*feed), *have);
    }
    ebt
}

/// Everything known about a peer that is as far as we are and was told so.
fn in_step(ebt: &mut Ebt, peer: u8, feeds: &[(u8, i64)]) -> Vec<(FeedId, i64)> {
    let link = ebt.connect(id(peer), false, &[], 0);
    said(ebt, link);
    ebt.heard(link, &notes(feeds), 0);
    said(ebt, link);
    ebt.disconnect(link, 0)
}

#[test]
fn who_was_dialed_speaks_first_and_who_dialed_waits() {
    let mut ebt = ebt(&[(1, 5)]);
    let dialed = ebt.connect(id(7), false, &[], 0);
    assert_eq!(said(&mut ebt, dialed), says(&[(0, 0), (1, 10)]));
    let dialing = ebt.connect(id(8), true, &[], 0);
    assert_eq!(said(&mut ebt, dialing), None);
    ebt.heard(dialing, &notes(&[]), 0);
    // both feeds are asked of the first peer already
    assert_eq!(said(&mut ebt, dialing), says(&[(0, 1), (1, 11)]));
}

#[test]
fn an_empty_object_is_sent_when_there_is_nothing_to_say() {
    let mut node = Ebt::new(id(0), 3, Settings::default());
    let clock = in_step(&mut node, 7, &[(0, 6)]);
    let link = node.connect(id(7), false, &clock, 0);
    assert_eq!(said(&mut node, link), says(&[]));
    assert_eq!(said(&mut node, link), None);
}

#[test]
fn only_feeds_that_changed_are_mentioned() {
    let mut node = ebt(&[(1, 5), (2, 9)]);
    let clock = in_step(&mut node, 7, &[(0, 0), (1, 10), (2, 18)]);
    node.appended(&id(2), 10, 0);
    node.spread(0);
    let link = node.connect(id(7), false, &clock, 0);
    assert_eq!(said(&mut node, link), says(&[(0, 0), (2, 20)]), "an empty feed may have begun unseen");
}

#[test]
fn a_kept_refusal_is_put_to_the_test_once_the_feed_has_changed() {
    let mut node = ebt(&[(1, 5)]);
    let clock = in_step(&mut node, 7, &[(0, 0), (1, -1)]);
    let link = node.connect(id(7), false, &clock, 0);
    assert_eq!(said(&mut node, link), says(&[(0, 0)]));
    node.appended(&id(1), 6, 0);
    node.spread(0);
    assert_eq!(said(&mut node, link), says(&[(1, 13)]));
    node.heard(link, &notes(&[(1, -1)]), 0);
    node.appended(&id(1), 7, 0);
    node.spread(0);
    assert_eq!(said(&mut node, link), None, "it said no just now");
}

#[test]
fn two_that_refused_a_feed_to_each_other_find_out_when_both_want_it() {
    let (mut here, mut there) = (ebt(&[]), ebt(&[]));
    let here_clock = in_step(&mut here, 7, &[(0, 0), (1, -1)]);
    let there_clock = in_step(&mut there, 8, &[(0, 0), (1, 4)]);
    here.want(id(1), 0);
    there.want(id(1), 2);
    let link = here.connect(id(7), false, &here_clock, 0);
    let back = there.connect(id(8), true, &there_clock, 0);
    let first = here.take_notes(link).expect("notes");
    there.heard(back, &Notes { notes: first, ignored: 0 }, 0);
    let answer = there.take_notes(back).expect("notes");
    here.heard(link, &Notes { notes: answer, ignored: 0 }, 0);
    assert_eq!(
        here.take_notes(link).map(|notes| notes.contains(&(id(1), Note::At { sequence: 0, send: true }))),
        Some(true)
    );
}

#[test]
fn a_feed_that_isnt_wanted_is_refused_once() {
    let mut node = ebt(&[]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(3, 8), (4, -1)]), 0);
    assert_eq!(said(&mut node, link), says(&[(3, -1)]));
    node.heard(link, &notes(&[(3, 10)]), 0);
    assert_eq!(said(&mut node, link), None);
    node.want(id(3), 0);
    assert_eq!(said(&mut node, link), says(&[(3, 0)]));
}

#[test]
fn a_peer_that_asks_gets_what_follows_and_then_what_is_appended() {
    let mut node = ebt(&[(1, 5)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 4)]), 0);
    let run = |from, count| Some(Run { feed: id(1), from, count });
    assert_eq!(node.next_run(link, 2), run(3, 2));
    assert_eq!(node.next_run(link, 2), run(5, 1));
    assert_eq!(node.next_run(link, 2), None);
    node.appended(&id(1), 6, 0);
    node.spread(0);
    assert_eq!(node.take_woken(), [link]);
    assert_eq!(node.next_run(link, 9), run(6, 1));
    node.heard(link, &notes(&[(1, 13)]), 0);
    node.appended(&id(1), 7, 0);
    node.spread(0);
    assert_eq!(node.next_run(link, 9), None);
    assert_eq!(said(&mut node, link), says(&[(1, 14)]));
}

#[test]
fn a_request_that_crossed_our_messages_doesnt_bring_them_twice_but_a_repeated_one_does() {
    let mut node = ebt(&[(1, 9)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 0)]), 0);
    assert!(node.next_run(link, 100).is_some());
    node.heard(link, &notes(&[(1, 8)]), 0);
    assert_eq!(node.next_run(link, 100), None);
    node.heard(link, &notes(&[(1, 8)]), 0);
    assert_eq!(node.next_run(link, 100), Some(Run { feed: id(1), from: 5, count: 5 }));
    // off and on starts over, too
    node.heard(link, &notes(&[(1, 9)]), 0);
    node.heard(link, &notes(&[(1, 12)]), 0);
    assert_eq!(node.next_run(link, 100), Some(Run { feed: id(1), from: 7, count: 3 }));
}

#[test]
fn feeds_take_turns() {
    let mut node = ebt(&[(1, 4), (2, 4)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 0), (2, 0)]), 0);
    let order: Vec<u8> = std::iter::from_fn(|| node.next_run(link, 2)).map(|run| run.feed.0[0]).collect();
    assert_eq!(order, [1, 2, 1, 2]);
}

#[test]
fn a_feed_is_asked_of_one_peer_and_moves_on_when_that_one_has_no_more() {
    let mut node = ebt(&[(1, 5)]);
    let one = node.connect(id(7), false, &[], 0);
    assert_eq!(said(&mut node, one), says(&[(0, 0), (1, 10)]));
    let two = node.connect(id(8), false, &[], 0);
    assert_eq!(said(&mut node, two), says(&[(0, 1), (1, 11)]));
    node.heard(one, &notes(&[(1, 12)]), 0);
    node.heard(two, &notes(&[(1, 12)]), 0);
    assert_eq!((said(&mut node, one), said(&mut node, two)), (None, None));
    node.heard(two, &notes(&[(1, 18)]), 0);
    assert_eq!((said(&mut node, one), said(&mut node, two)), (None, None), "the first still has something to send");
    node.outcome(one, &id(1), 6, Outcome::Stored, 0);
    node.spread(0);
    assert_eq!((said(&mut node, one), said(&mut node, two)), (says(&[(1, 13)]), says(&[(1, 12)])));
    node.heard(one, &notes(&[(1, 16)]), 0);
    node.disconnect(two, 0);
    assert_eq!(said(&mut node, one), says(&[(1, 12)]), "the other still has more than we");
}

#[test]
fn a_source_that_doesnt_deliver_is_replaced_in_turns() {
    let mut node = ebt(&[(1, 0)]);
    let links: Vec<Link> = (7..10).map(|peer| node.connect(id(peer), false, &[], 0)).collect();
    for link in &links {
        said(&mut node, *link);
        node.heard(*link, &notes(&[(1, 9)]), 0);
        said(&mut node, *link);
    }
    let mut sources = Vec::new();
    for round in 1..5 {
        node.tick(round * 3_000);
        for (peer, link) in links.iter().enumerate() {
            if said(&mut node, *link).is_some_and(|notes| notes.get(&1) == Some(&0)) {
                sources.push(peer);
            }
        }
    }
    assert_eq!(sources, [1, 2, 0, 1]);
    assert_eq!(node.accept(links[1], &id(1), 1, 14_000), Accept::Take);
    node.tick(16_000);
    assert!(links.iter().all(|link| said(&mut node, *link).is_none()), "the source delivers");
}

#[test]
fn a_message_that_wasnt_asked_for_is_not_taken() {
    let mut node = ebt(&[(1, 5)]);
    let link = node.connect(id(7), false, &[], 0);
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Unasked, "nothing was said yet");
    said(&mut node, link);
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Take);
    assert_eq!(node.accept(link, &id(1), 5, 0), Accept::Known);
    assert_eq!(node.accept(link, &id(3), 1, 0), Accept::Unasked);
    node.unwant(&id(1));
    assert_eq!(said(&mut node, link), says(&[(1, -1)]));
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Unasked);
    node.disconnect(link, 0);
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Unasked);
}

#[test]
fn a_forked_feed_stops_with_that_peer_and_goes_on_with_another() {
    let mut node = ebt(&[(1, 5)]);
    let one = node.connect(id(7), false, &[], 0);
    let two = node.connect(id(8), false, &[], 0);
    for link in [one, two] {
        said(&mut node, link);
        node.heard(link, &notes(&[(1, 16)]), 0);
        said(&mut node, link);
    }
    assert_eq!(node.accept(one, &id(1), 6, 0), Accept::Take);
    node.outcome(one, &id(1), 6, Outcome::Fork, 0);
    node.outcome(one, &id(1), 7, Outcome::Gap { have: 5 }, 0);
    assert_eq!(node.take_events(), [Event::Forked { feed: id(1), peer: id(7), sequence: 6 }]);
    assert_eq!(said(&mut node, one), says(&[(1, -1)]));
    assert_eq!(said(&mut node, two), says(&[(1, 10)]));
    assert_eq!(node.accept(one, &id(1), 8, 0), Accept::Unasked);
    assert_eq!(node.accept(two, &id(1), 6, 0), Accept::Take);
    node.outcome(two, &id(1), 6, Outcome::Stored, 0);
    node.spread(0);
    node.heard(one, &notes(&[(1, 0)]), 0);
    assert_eq!(node.next_run(one, 9), None);
}

#[test]
fn after_a_gap_the_peer_is_asked_to_start_over_once() {
    let mut node = ebt(&[(1, 5)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 40)]), 0);
    for sequence in 8..12 {
        assert_eq!(node.accept(link, &id(1), sequence, 0), Accept::Take);
        node.outcome(link, &id(1), sequence, Outcome::Gap { have: 5 }, 0);
    }
    assert_eq!(said(&mut node, link), says(&[(1, 11)]));
    assert_eq!(said(&mut node, link), says(&[(1, 10)]));
    node.outcome(link, &id(1), 12, Outcome::Gap { have: 5 }, 0);
    assert_eq!(said(&mut node, link), None);
}

#[test]
fn a_feed_isnt_exchanged_with_a_peer_that_its_author_blocks() {
    let mut node = ebt(&[(1, 5), (2, 5)]);
    node.block(id(1), id(7), true, 0);
    let link = node.connect(id(7), false, &[], 0);
    assert_eq!(said(&mut node, link), says(&[(0, 0), (2, 10)]));
    node.heard(link, &notes(&[(1, 0), (2, 0)]), 0);
    assert_eq!(said(&mut node, link), says(&[(1, -1)]));
    assert_eq!(node.next_run(link, 9).map(|run| run.feed), Some(id(2)));
    node.block(id(2), id(7), true, 0);
    assert_eq!(said(&mut node, link), says(&[(2, -1)]));
    node.appended(&id(2), 6, 0);
    node.spread(0);
    assert_eq!(node.next_run(link, 9), None);
    node.block(id(1), id(7), false, 0);
    assert_eq!(said(&mut node, link), says(&[(1, 10)]));
}

#[test]
fn our_own_feed_is_behind_until_what_peers_have_is_taken_in() {
    let mut node = Ebt::new(id(0), 2, Settings::default());
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    assert_eq!(node.own_feed(), OwnFeed { have: 2, ahead: None });
    node.heard(link, &notes(&[(0, 8)]), 0);
    assert_eq!(node.own_feed(), OwnFeed { have: 2, ahead: Some(4) });
    for sequence in [3, 4] {
        assert_eq!(node.accept(link, &id(0), sequence, 0), Accept::Take);
        node.outcome(link, &id(0), sequence, Outcome::Stored, 0);
    }
    assert_eq!(node.own_feed(), OwnFeed { have: 4, ahead: None });
    let ahead = Event::OwnFeedAhead { peer: id(7), claimed: 4, have: 2 };
    assert_eq!(node.take_events(), [ahead, Event::OwnFeedTakenIn { have: 4 }]);
}

#[test]
fn an_idle_claim_to_have_more_of_our_feed_is_dropped_for_good() {
    let mut node = Ebt::new(id(0), 2, Settings::default());
    let link = node.connect(id(7), false, &[], 0);
    node.heard(link, &notes(&[(0, 8)]), 0);
    node.disconnect(link, 10);
    assert_eq!(node.own_feed().ahead, Some(4), "hanging up doesn't take it back");
    node.tick(60_000);
    assert_eq!(node.own_feed().ahead, None);
    let link = node.connect(id(7), false, &[], 60_000);
    node.heard(link, &notes(&[(0, 10)]), 60_000);
    assert_eq!(node.own_feed().ahead, None);
}

#[test]
fn status_and_progress_are_told_as_the_reference_does() {
    let mut node = ebt(&[(1, 5)]);
    assert_eq!(node.progress(), Progress::default());
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(0, 0), (1, 30)]), 0);
    let replicating = Some(Replicating { tx: true, rx: true, sent: 15, requested: 5 });
    assert_eq!(node.peer_status(&id(1)), [(id(7), PeerStatus { sequence: Some(15), replicating })]);
    assert_eq!(node.progress(), Progress { start: 0, current: 4, target: 14 });
    assert_eq!(node.incomplete(), 1);
    node.appended(&id(1), 15, 0);
    assert_eq!((node.progress().current, node.incomplete()), (4, 0));
    assert_eq!(node.peer_status(&id(9)), []);
}

#[test]
fn what_one_peer_can_make_us_keep_is_bounded() {
    let mut node = ebt(&[]);
    let link = node.connect(id(7), false, &[], 0);
    for round in 0..3u32 {
        let notes = (0..MAX_NOTES as u32)
            .map(|number| {
                let mut feed = [9; 32];
                feed[..4].copy_from_slice(&number.to_le_bytes());
                feed[4..8].copy_from_slice(&round.to_le_bytes());
                (FeedId(feed), Note::At { sequence: 1, send: true })
            })
            .collect();
        node.heard(link, &Notes { notes, ignored: 0 }, 0);
    }
    assert!(node.clock(link).len() <= MAX_ELSEWHERE + 1);
    let mut told = 0;
    while let Some(notes) = node.take_notes(link) {
        assert!(notes.len() <= NOTES_AT_A_TIME);
        told += notes.len();
    }
    assert_eq!(told, MAX_ELSEWHERE + 1);
}

/// What travels.
#[derive(Debug, Clone)]
enum Sent {
    Notes(Vec<(FeedId, Note)>),
    Message(FeedId, u64),
}

struct Node {
    ebt: Ebt,
    log: HashMap<FeedId, u64>,
    clocks: HashMap<FeedId, Vec<(FeedId, i64)>>,
}

/// A connection: its ends and what is under way to each.
struct Wire {
    ends: [(usize, Link); 2],
    queues: [VecDeque<Sent>; 2],
    /// What each end last asked to be sent.
    asked: [HashSet<FeedId>; 2],
}

struct World {
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    now: u64,
    /// How many messages each author ever wrote.
    written: Vec<u64>,
    delivered: usize,
}

impl World {
    /// Node `n` writes feed `n`.
    fn new(count: usize) -> World {
        let nodes = (0..count as u8)
            .map(|number| Node {
                ebt: Ebt::new(id(number), 0, Settings::default()),
                log: HashMap::new(),
                clocks: HashMap::new(),
            })
            .collect();
        World { nodes, wires: Vec::new(), now: 0, written: vec![0; count], delivered: 0 }
    }

    fn connect(&mut self, dialer: usize, dialed: usize) {
        let between = |wire: &Wire| wire.ends.iter().all(|(node, _)| *node == dialer || *node == dialed);
        if dialer == dialed || self.wires.iter().any(between) {
            return;
        }
        let now = self.now;
        let mut end = |node: usize, peer: usize, dials: bool| {
            let node = &mut self.nodes[node];
            let stored = node.clocks.get(&id(peer as u8)).cloned().unwrap_or_default();
            node.ebt.connect(id(peer as u8), dials, &stored, now)
        };
        let ends = [(dialer, end(dialer, dialed, true)), (dialed, end(dialed, dialer, false))];
        self.wires.push(Wire { ends, queues: Default::default(), asked: Default::default() });
    }

    /// Whatever is under way is lost; a side that crashes doesn't save its clock.
    fn cut(&mut self, wire: usize, crash: bool) {
        let wire = self.wires.swap_remove(wire % self.wires.len());
        for (this, other) in [(0, 1), (1, 0)] {
            let (node, link) = wire.ends[this];
            let clock = self.nodes[node].ebt.disconnect(link, self.now);
            if !crash {
                self.nodes[node].clocks.insert(id(wire.ends[other].0 as u8), clock);
            }
        }
    }

    /// A node that lost some of its own feed doesn't write on: that would fork it.
    fn append(&mut self, author: usize) {
        let feed = id(author as u8);
        let node = &mut self.nodes[author];
        let sequence = node.log.entry(feed).or_insert(0);
        if *sequence < self.written[author] {
            return;
        }
        *sequence += 1;
        self.written[author] = *sequence;
        node.ebt.appended(&feed, *sequence, self.now);
        node.ebt.spread(self.now);
    }

    /// A node comes back with an older log, and the clocks it had then or none.
    fn restore(&mut self, number: usize, keep_clocks: bool) {
        while let Some(wire) = self.wires.iter().position(|wire| wire.ends.iter().any(|(node, _)| *node == number)) {
            self.cut(wire, true);
        }
        let node = &mut self.nodes[number];
        node.log.values_mut().for_each(|sequence| *sequence /= 2);
        if !keep_clocks {
            node.clocks.clear();
        }
        let have = |feed: &FeedId| node.log.get(feed).copied().unwrap_or(0);
        let mut ebt = Ebt::new(id(number as u8), have(&id(number as u8)), Settings::default());
        node.ebt.wanted().for_each(|feed| ebt.want(feed, have(&feed)));
        node.ebt = ebt;
    }

    fn want(&mut self, node: usize, feed: u8, wanted: bool) {
        let node = &mut self.nodes[node];
        if wanted {
            node.ebt.want(id(feed), node.log.get(&id(feed)).copied().unwrap_or(0));
        } else {
            node.ebt.unwant(&id(feed));
        }
    }

    /// One side of one wire sends what it has: notes first, then a few messages.
    fn emit(&mut self, wire: usize, side: usize) -> bool {
        let Some(wire) = self.wires.get_mut(wire) else { return false };
        let (node, link) = wire.ends[side];
        let ebt = &mut self.nodes[node].ebt;
        let queue = &mut wire.queues[1 - side];
        if let Some(notes) = ebt.take_notes(link) {
            queue.push_back(Sent::Notes(notes));
            return true;
        }
        let Some(run) = ebt.next_run(link, 3) else { return false };
        assert!(wire.asked[1 - side].contains(&run.feed), "a feed that wasn't asked for");
        assert!(ebt.wants(&run.feed), "a feed that isn't wanted here");
        let have = self.nodes[node].log.get(&run.feed).copied().unwrap_or(0);
        for sequence in run.from..run.from + run.count as u64 {
            assert!(sequence <= have, "a message that isn't there");
            queue.push_back(Sent::Message(run.feed, sequence));
        }
        true
    }

    /// One side of one wire reads one item.
    fn deliver(&mut self, wire: usize, side: usize) -> bool {
        let Some(wire) = self.wires.get_mut(wire) else { return false };
        let Some(item) = wire.queues[side].pop_front() else { return false };
        let (node, link) = wire.ends[side];
        let node = &mut self.nodes[node];
        match item {
            Sent::Notes(notes) => {
                for (feed, note) in &notes {
                    let asks = matches!(note, Note::At { send: true, .. });
                    let asked = &mut wire.asked[1 - side];
                    if asks {
                        asked.insert(*feed)
                    } else {
                        asked.remove(feed)
                    };
                }
                node.ebt.heard(link, &Notes { notes, ignored: 0 }, self.now);
            }
            Sent::Message(feed, sequence) => {
                self.delivered += 1;
                if node.ebt.accept(link, &feed, sequence, self.now) == Accept::Take {
                    let have = node.log.entry(feed).or_insert(0);
                    let outcome = if sequence == *have + 1 {
                        *have = sequence;
                        Outcome::Stored
                    } else if sequence <= *have {
                        Outcome::Duplicate
                    } else {
                        Outcome::Gap { have: *have }
                    };
                    node.ebt.outcome(link, &feed, sequence, outcome, self.now);
                    node.ebt.spread(self.now);
                }
            }
        }
        true
    }

    /// Runs until nothing moves, time passing included.
    fn settle(&mut self) {
        for _ in 0..60 {
            let mut steps = 0;
            while (0..self.wires.len()).fold(false, |any, wire| {
                (0..2).fold(any, |any, side| self.emit(wire, side) | self.deliver(wire, side) | any)
            }) {
                steps += 1;
                assert!(steps < 100_000, "it never ends");
            }
            self.now += 1_000;
            for node in &mut self.nodes {
                node.ebt.tick(self.now);
            }
        }
    }

    /// Whoever wants a feed and has a path to another that wants it and has more, over nodes that want it, has it too.
    fn check(&self) {
        for feed in 0..self.nodes.len() as u8 {
            let mut best: Vec<u64> =
                self.nodes.iter().map(|node| node.log.get(&id(feed)).copied().unwrap_or(0)).collect();
            let wants: Vec<bool> = self.nodes.iter().map(|node| node.ebt.wants(&id(feed))).collect();
            let have = best.clone();
            for _ in 0..self.nodes.len() {
                for wire in &self.wires {
                    let [(one, _), (two, _)] = wire.ends;
                    if wants[one] && wants[two] {
                        let most = best[one].max(best[two]);
                        (best[one], best[two]) = (most, most);
                    }
                }
            }
            assert_eq!(have, best, "feed {feed}, wanted by {wants:?}");
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Connect(usize, usize),
    Cut(usize, bool),
    Append(usize),
    Want(usize, u8),
    Unwant(usize, u8),
    Restore(usize, bool),
    Emit(usize, usize),
    Deliver(usize, usize),
    Wait,
}

fn acts(nodes: usize) -> impl Strategy<Value = Vec<Act>> {
    let node = 0..nodes;
    let act = prop_oneof![
        3 => (node.clone(), node.clone()).prop_map(|(one, two)| Act::Connect(one, two)),
        1 => (0..9usize, any::<bool>()).prop_map(|(wire, crash)| Act::Cut(wire, crash)),
        4 => node.clone().prop_map(Act::Append),
        3 => (node.clone(), 0..nodes as u8).prop_map(|(node, feed)| Act::Want(node, feed)),
        1 => (node.clone(), 0..nodes as u8).prop_map(|(node, feed)| Act::Unwant(node, feed)),
        1 => (node, any::<bool>()).prop_map(|(node, clocks)| Act::Restore(node, clocks)),
        12 => (0..9usize, 0..2usize).prop_map(|(wire, side)| Act::Emit(wire, side)),
        20 => (0..9usize, 0..2usize).prop_map(|(wire, side)| Act::Deliver(wire, side)),
        1 => Just(Act::Wait),
    ];
    proptest::collection::vec(act, 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_happens_feeds_reach_all_that_want_them_and_nobody_else(acts in acts(5), all in any::<bool>()) {
        let mut world = World::new(5);
        if all {
            for node in 0..5 {
                (0..5).for_each(|feed| world.want(node, feed, true));
            }
        }
        for act in acts {
            match act {
                Act::Connect(one, two) => world.connect(one, two),
                Act::Cut(wire, crash) if !world.wires.is_empty() => world.cut(wire, crash),
                Act::Append(node) => world.append(node),
                Act::Want(node, feed) => world.want(node, feed, true),
                Act::Unwant(node, feed) if !all => world.want(node, feed, false),
                Act::Restore(node, clocks) => world.restore(node, clocks),
                Act::Emit(wire, side) => { world.emit(wire, side); }
                Act::Deliver(wire, side) => { world.deliver(wire, side); }
                Act::Wait => {
                    world.now += 2_000;
                    let now = world.now;
                    world.nodes.iter_mut().for_each(|node| node.ebt.tick(now));
                }
                _ => {}
            }
        }
        world.settle();
        world.check();
    }
}

#[test]
fn a_ring_of_twenty_nodes_converges_and_sends_each_message_about_once_to_each() {
    let mut world = World::new(20);
    for node in 0..20 {
        (0..20).for_each(|feed| world.want(node, feed, true));
        (0..30).for_each(|_| world.append(node));
    }
    for node in 0..20 {
        world.connect(node, (node + 1) % 20);
        world.connect(node, (node + 5) % 20);
    }
    world.settle();
    world.check();
    assert!(world.nodes.iter().all(|node| node.log.values().sum::<u64>() == 600));
    assert!(world.nodes.iter().all(|node| node.ebt.incomplete() == 0));
    let needed = 19 * 600;
    assert!(world.delivered < needed * 8 / 5, "{} messages went over the wires, {needed} were needed", world.delivered);
    let before = world.delivered;
    world.append(0);
    world.settle();
    world.check();
    assert!(world.delivered - before <= 25, "{} for one live message", world.delivered - before);
}
