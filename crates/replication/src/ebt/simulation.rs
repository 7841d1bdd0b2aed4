//! The state machine in a simulated network: nodes whose logs are counters, connections that are queues.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;
use sbot_feed::FeedId;

use super::*;

fn id(number: u8) -> FeedId {
    FeedId([number; 32])
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
    /// Its disk is full.
    full: bool,
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
                full: false,
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

    /// A node finds that the second half of a feed is damaged.
    fn lose(&mut self, node: usize, feed: u8) {
        let node = &mut self.nodes[node];
        if let Some(have) = node.log.get_mut(&id(feed)) {
            *have /= 2;
            node.ebt.lost(&id(feed), *have, self.now);
        }
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
                if node.ebt.accept(link, &feed, sequence, self.now) == Accept::Take && !node.full {
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
    Lose(usize, u8),
    Full(usize, bool),
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
        1 => (node.clone(), any::<bool>()).prop_map(|(node, clocks)| Act::Restore(node, clocks)),
        1 => (node.clone(), 0..nodes as u8).prop_map(|(node, feed)| Act::Lose(node, feed)),
        1 => (node, any::<bool>()).prop_map(|(node, full)| Act::Full(node, full)),
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
                Act::Lose(node, feed) => world.lose(node, feed),
                Act::Full(node, full) => world.nodes[node].full = full,
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
        world.nodes.iter_mut().for_each(|node| node.full = false);
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
