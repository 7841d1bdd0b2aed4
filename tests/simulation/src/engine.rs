//! The engine: it runs a world in virtual time, every peer with the same policy.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::dials::Dial;
use crate::graph::NodeId;
use crate::links::Links;
use crate::measure::{Cost, Knowledge, Measures, Sample};
use crate::ours::Ours;
use crate::policy::{Fact, Kind, LinkId, Policy, Wish};
use crate::queue::{Event, Queue};
use crate::random::Draws;
use crate::replication::Logs;
use crate::settings::{HOUR, MINUTE, Millis, SECOND};
use crate::ssb_conn::SsbConn;
use crate::world::World;

/// Time between two samples of the network.
const SAMPLE: Millis = HOUR;
/// Time between two samples around the reconnect.
const SAMPLE_RECONNECT: Millis = 10 * SECOND;
/// From so long before the reconnect…
const BEFORE_RECONNECT: Millis = 5 * MINUTE;
/// …until so long after it.
pub(crate) const AFTER_RECONNECT: Millis = 25 * MINUTE;
/// Time between two samples of what peers know.
const SAMPLE_KNOWLEDGE: Millis = 6 * HOUR;

/// A living peer.
pub(crate) struct Node {
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) online: bool,
    /// How often it has gone offline: what was meant for an earlier life is not for this one.
    pub(crate) life: u32,
    wake: Option<Millis>,
    pub(crate) dials: Vec<Dial>,
    /// The links that it believes in.
    pub(crate) links: Vec<LinkId>,
}

/// What came of a world.
#[derive(Debug)]
pub struct Outcome {
    /// Whose.
    pub kind: Kind,
    /// What was measured in the world.
    pub measures: Measures,
    /// What the policy cost, in real time.
    pub cost: Cost,
    /// How long the run took, in real time.
    pub took: Duration,
}

pub(crate) struct Engine<'a> {
    pub(crate) world: &'a World,
    pub(crate) now: Millis,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Links,
    pub(crate) queue: Queue,
    pub(crate) logs: Logs,
    pub(crate) measures: Measures,
    /// Facts that are to be told in this very moment.
    pub(crate) facts: VecDeque<(NodeId, Fact)>,
    cost: Cost,
    pub(crate) draws: Draws,
}

/// Runs a world with a policy.
pub fn run(world: &World, kind: Kind) -> Outcome {
    let begun = Instant::now();
    let mut engine = Engine::new(world, kind);
    engine.run();
    let bytes: Vec<usize> = engine.nodes.iter().map(|node| node.policy.bytes()).collect();
    let mean = bytes.iter().sum::<usize>() as f64 / bytes.len().max(1) as f64;
    engine.measures.bytes = (mean, bytes.into_iter().max().unwrap_or(0));
    engine.measures.spreads.retain(|spread| spread.reachable > 0);
    Outcome { kind, measures: engine.measures, cost: engine.cost, took: begun.elapsed() }
}

impl<'a> Engine<'a> {
    fn new(world: &'a World, kind: Kind) -> Self {
        // Other draws than those that made the world.
        let mut draws = Draws::new(!world.settings.seed);
        let nodes = (0..world.settings.peers as NodeId).map(|own| {
            let draws = draws.fork();
            let policy: Box<dyn Policy> = match kind {
                Kind::Ours => Box::new(Ours::new(own, world, draws)),
                Kind::SsbConn => Box::new(SsbConn::new(own, world, draws)),
            };
            Node { policy, online: false, life: 0, wake: None, dials: Vec::new(), links: Vec::new() }
        });
        let nodes = nodes.collect();
        let mut engine = Engine {
            world,
            now: 0,
            nodes,
            links: Links::default(),
            queue: Queue::default(),
            logs: Logs::new(world),
            measures: Measures::new(world),
            facts: VecDeque::new(),
            cost: Cost::default(),
            draws,
        };
        engine.foresee();
        engine
    }

    /// Puts everything into the queue that the world holds.
    fn foresee(&mut self) {
        let (world, queue) = (self.world, &mut self.queue);
        for (node, timeline) in world.timelines.iter().enumerate() {
            for (number, session) in timeline.sessions().iter().enumerate() {
                queue.push(session.from, Event::Begin(node as NodeId, number as u32));
                queue.push(session.to, Event::End(node as NodeId, number as u32));
            }
        }
        for (node, heard) in world.heard.iter().enumerate() {
            for (number, (at, _)) in heard.iter().enumerate() {
                queue.push(*at, Event::Hear(node as NodeId, number as u32));
            }
        }
        for (number, cut) in world.partitions.iter().enumerate() {
            queue.push(cut.from, Event::Cut(number as u32));
        }
        for (number, message) in world.messages.iter().enumerate() {
            queue.push(message.at, Event::Publish(number as u32));
        }
        queue.push(world.reconnect, Event::Reconnect);
        let mut every = |from: Millis, to: Millis, step: Millis, event: Event| {
            (from..to).step_by(step as usize).for_each(|at| queue.push(at, event));
        };
        let end = world.settings.duration;
        every(SAMPLE, end, SAMPLE, Event::Sample);
        every(SAMPLE_KNOWLEDGE, end, SAMPLE_KNOWLEDGE, Event::SampleKnowledge);
        let (before, after) = (world.reconnect.saturating_sub(BEFORE_RECONNECT), world.reconnect + AFTER_RECONNECT);
        every(before, after.min(end), SAMPLE_RECONNECT, Event::SampleReconnect);
    }

    fn run(&mut self) {
        while let Some((at, event)) = self.queue.pop() {
            if at >= self.world.settings.duration {
                break;
            }
            self.now = at;
            self.measures.events += 1;
            self.happen(event);
            while let Some((node, fact)) = self.facts.pop_front() {
                if self.nodes[node as usize].online {
                    self.tell(node, fact);
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin(node, number) => self.begin(node, number),
            Event::End(node, number) => self.go(node, number),
            Event::Tick(node, life) => {
                let state = &mut self.nodes[node as usize];
                if state.life == life && state.wake == Some(self.now) {
                    state.wake = None;
                    self.facts.push_back((node, Fact::Tick));
                }
            }
            Event::DialDone(node, life, attempt) if self.nodes[node as usize].life == life => {
                self.dial_done(node, attempt);
            }
            Event::DialDone(..) => {}
            Event::Told(link, end) => self.told(link, end),
            Event::Silent(link, end) => self.silent(link, end),
            Event::Compared(link) => self.compared(link),
            Event::CaughtUp(link) => self.caught_up(link),
            Event::Deliver(link, end, feed, sequence) => self.deliver(link, end, feed, sequence),
            Event::Publish(number) => self.publish(number),
            Event::Hear(node, number) => {
                let (_, address) = self.world.heard[node as usize][number as usize];
                self.facts.push_back((node, Fact::Heard(address)));
            }
            Event::Cut(number) => self.cut(number),
            Event::Reconnect => self.reconnect(),
            Event::Notice(node, life) => {
                if self.nodes[node as usize].life == life {
                    self.facts.push_back((node, Fact::NetworkChanged));
                }
            }
            Event::Sample => {
                let sample = self.sample();
                self.measures.samples.push(sample);
            }
            Event::SampleReconnect => {
                let sample = self.sample();
                self.measures.around_reconnect.push(sample);
            }
            Event::SampleKnowledge => self.sample_knowledge(),
        }
    }

    fn tell(&mut self, node: NodeId, fact: Fact) {
        let mut wishes = Vec::new();
        let policy = &mut self.nodes[node as usize].policy;
        policy.note(fact, self.now, self.world, &mut wishes, &mut self.cost);
        self.measures.over_limit += u64::from(policy.holds().over_limit);
        for wish in wishes {
            match wish {
                Wish::Dial { attempt, address, timeout } => self.dial(node, attempt, address, timeout),
                Wish::Cancel { attempt } => self.cancel(node, attempt),
                Wish::HangUp { link } => self.hang_up(node, link),
                Wish::WakeAt(when) => {
                    let when = when.max(self.now);
                    let state = &mut self.nodes[node as usize];
                    if state.wake.replace(when) != Some(when) {
                        self.queue.push(when, Event::Tick(node, state.life));
                    }
                }
            }
        }
    }

    /// Whether what one sends comes to the other.
    pub(crate) fn reaches(&self, one: NodeId, other: NodeId) -> bool {
        let online = |node: NodeId| self.nodes[node as usize].online;
        online(one) && online(other) && !self.world.apart(one, other, self.now)
    }

    fn begin(&mut self, node: NodeId, number: u32) {
        let sessions = self.world.timelines[node as usize].sessions();
        let slept = number.checked_sub(1).is_some_and(|before| sessions[before as usize].then_sleeps);
        let state = &mut self.nodes[node as usize];
        state.online = true;
        // Timers stand still while a machine sleeps (Linux's `CLOCK_MONOTONIC`, which tokio and Node.js count by).
        if let Some(wake) = state.wake.as_mut() {
            *wake += self.now - sessions[number as usize - 1].to;
            self.queue.push(*wake, Event::Tick(node, state.life));
        }
        self.facts.push_back((node, if slept { Fact::Woke } else { Fact::Started }));
    }

    /// A session ends.
    fn go(&mut self, node: NodeId, number: u32) {
        let sleeps = self.world.timelines[node as usize].sessions()[number as usize].then_sleeps;
        let state = &mut self.nodes[node as usize];
        let dials = std::mem::take(&mut state.dials);
        let links = state.links.clone();
        dials.iter().for_each(|dial| self.dropped(dial));
        for link in links {
            let Some(known) = self.links.get(link).copied() else { continue };
            let end = known.end_of(node);
            if sleeps {
                self.lost(link);
                self.queue.push(self.now + self.world.settings.inactivity, Event::Silent(link, 1 - end));
            } else {
                self.end(link, end);
                self.inform(&known, 1 - end);
            }
        }
        if !sleeps {
            self.tell(node, Fact::Stopped);
        }
        let state = &mut self.nodes[node as usize];
        (state.online, state.wake) = (false, state.wake.filter(|_| sleeps));
        state.life += 1;
    }

    fn sample(&self) -> Sample {
        let mut linked = vec![false; self.nodes.len()];
        let mut links = 0;
        let online = |node: NodeId| self.nodes[node as usize].online;
        for link in self.links.iter().filter(|link| link.carries() && online(link.at(0)) && online(link.at(1))) {
            links += 1;
            link.ends.iter().for_each(|node| linked[*node as usize] = true);
        }
        let there = self.nodes.iter().enumerate().filter(|(_, node)| node.online);
        let alone = there.clone().filter(|(node, _)| *node >= self.world.graph.pubs && !linked[*node]);
        Sample { at: self.now, online: there.clone().count(), alone: alone.count(), links }
    }

    fn sample_knowledge(&mut self) {
        let known = self.nodes.iter().filter(|node| node.online).map(|node| node.policy.holds().known);
        let (mut count, mut sum, mut most) = (0, 0, 0);
        for known in known {
            (count, sum, most) = (count + 1, sum + known, most.max(known));
        }
        let mean = sum as f64 / f64::from(count.max(1));
        self.measures.knowledge.push(Knowledge { at: self.now, mean, most });
    }
}
