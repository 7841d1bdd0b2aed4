//! A network of exchanges in memory, whose messages and transfers arrive in any order that the draws say.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sbot_blobs::{Effect, Ended, Exchange, Found, Note, Open, Saved, Settings};
use sbot_feed::{BlobId, FeedId};

/// Notes sent at a time: few, so that many objects are under way.
const NOTES: usize = 3;

pub(crate) fn blob(n: u64) -> BlobId {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    BlobId(bytes)
}

pub(crate) fn peer(n: usize) -> FeedId {
    let mut bytes = [2; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    FeedId(bytes)
}

fn index(peer: &FeedId) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&peer.as_bytes()[..8]);
    u64::from_be_bytes(bytes) as usize
}

pub(crate) struct Node {
    pub(crate) exchange: Exchange,
    pub(crate) blobs: BTreeMap<BlobId, u64>,
    /// Blobs for which a client waits.
    pub(crate) waiting: BTreeSet<BlobId>,
}

/// What is under way.
enum Event {
    Listens { node: usize, to: usize, link: u64 },
    Notes { from: usize, to: usize, link: u64, notes: Vec<(BlobId, Note)> },
    Transfer { to: usize, from: usize, link: u64, blob: BlobId, stopped: bool },
}

/// How much was said and sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) wants: usize,
    pub(crate) haves: usize,
    pub(crate) fetches: usize,
}

pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    /// Links, with a number for each time that they were made.
    pub(crate) links: BTreeMap<(usize, usize), u64>,
    made: u64,
    events: Vec<Event>,
    draws: fastrand::Rng,
    pub(crate) now: u64,
    pub(crate) cost: Cost,
}

impl Net {
    pub(crate) fn new(count: usize, settings: Settings, seed: u64) -> Self {
        let node = |_| Node {
            exchange: Exchange::new(settings, Arc::new(Open), Saved::default()),
            blobs: BTreeMap::new(),
            waiting: BTreeSet::new(),
        };
        Self {
            nodes: (0..count).map(node).collect(),
            links: BTreeMap::new(),
            made: 0,
            events: Vec::new(),
            draws: fastrand::Rng::with_seed(seed),
            now: 0,
            cost: Cost::default(),
        }
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        if a == b || self.links.contains_key(&(a, b)) {
            return;
        }
        self.made += 1;
        for (a, b) in [(a, b), (b, a)] {
            self.links.insert((a, b), self.made);
            let effects = self.nodes[a].exchange.connected(peer(b), self.now);
            self.follow(a, effects);
            self.events.push(Event::Listens { node: a, to: b, link: self.made });
        }
    }

    pub(crate) fn disconnect(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a, b)).is_none() {
            return;
        }
        self.links.remove(&(b, a));
        for (a, b) in [(a, b), (b, a)] {
            let effects = self.nodes[a].exchange.disconnected(&peer(b), self.now);
            self.follow(a, effects);
        }
    }

    pub(crate) fn want(&mut self, node: usize, id: BlobId) {
        if self.nodes[node].blobs.contains_key(&id) {
            return;
        }
        self.nodes[node].waiting.insert(id);
        let effects = self.nodes[node].exchange.want(id, self.now).unwrap();
        self.follow(node, effects);
    }

    pub(crate) fn add(&mut self, node: usize, id: BlobId) {
        self.nodes[node].blobs.insert(id, 10);
        let effects = self.nodes[node].exchange.added(&id, 10, self.now);
        self.follow(node, effects);
    }

    pub(crate) fn remove(&mut self, node: usize, id: BlobId) {
        if self.nodes[node].blobs.remove(&id).is_some() {
            let effects = self.nodes[node].exchange.removed(&id);
            self.follow(node, effects);
        }
    }

    pub(crate) fn push(&mut self, node: usize, id: BlobId) {
        let effects = self.nodes[node].exchange.push(id, self.now).unwrap();
        self.follow(node, effects);
    }

    pub(crate) fn tick(&mut self, passed: u64) {
        self.now += passed;
        for node in 0..self.nodes.len() {
            let effects = self.nodes[node].exchange.tick(self.now);
            self.follow(node, effects);
        }
    }

    fn follow(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Tell(to) => self.tell(node, index(&to)),
                Effect::Fetch { blob, peer, .. } => {
                    self.cost.fetches += 1;
                    let from = index(&peer);
                    let link = self.links.get(&(node, from)).copied().unwrap_or_default();
                    self.events.push(Event::Transfer { to: node, from, link, blob, stopped: false });
                }
                Effect::Stop(id) => {
                    for event in &mut self.events {
                        if let Event::Transfer { to, blob, stopped, .. } = event
                            && (*to, *blob) == (node, id)
                        {
                            *stopped = true;
                        }
                    }
                }
                Effect::Done(id, Found::Here) => {
                    self.nodes[node].waiting.remove(&id);
                }
                Effect::Done(..) | Effect::Discard(_) | Effect::Pushed(_) | Effect::Save => {}
            }
        }
    }

    fn tell(&mut self, from: usize, to: usize) {
        let Some(link) = self.links.get(&(from, to)).copied() else { return };
        while self.nodes[from].exchange.has_notes_for(&peer(to)) {
            let notes = self.nodes[from].exchange.notes_for(&peer(to), NOTES);
            let note = |(id, number): (BlobId, i64)| match number {
                size if size > 0 => (id, Note::Has(Some(size as u64))),
                distance => (id, Note::Want(distance.unsigned_abs() as u32)),
            };
            let notes: Vec<_> = notes.into_iter().map(note).collect();
            let wants = notes.iter().filter(|(_, note)| matches!(note, Note::Want(_))).count();
            self.cost.wants += wants;
            self.cost.haves += notes.len() - wants;
            self.events.push(Event::Notes { from, to, link, notes });
        }
    }

    /// Lets one thing arrive, objects of one link in their order. False if nothing is under way.
    pub(crate) fn step(&mut self) -> bool {
        if self.events.is_empty() {
            return false;
        }
        let drawn = self.draws.usize(..self.events.len());
        let at = match &self.events[drawn] {
            Event::Notes { from, to, .. } => {
                let same = |event: &Event| matches!(event, Event::Notes { from: f, to: t, .. } if f == from && t == to);
                self.events.iter().position(same).unwrap()
            }
            Event::Transfer { .. } | Event::Listens { .. } => drawn,
        };
        match self.events.remove(at) {
            Event::Listens { node, to, link } => {
                if self.links.get(&(node, to)) == Some(&link) {
                    let effects = self.nodes[node].exchange.listens(&peer(to));
                    self.follow(node, effects);
                }
            }
            Event::Notes { from, to, link, notes } => {
                if self.links.get(&(from, to)) == Some(&link) {
                    let node = &mut self.nodes[to];
                    let blobs = &node.blobs;
                    let effects = node.exchange.heard(&peer(from), &notes, self.now, |id| blobs.get(id).copied());
                    self.follow(to, effects);
                }
            }
            Event::Transfer { to, from, link, blob, stopped } => {
                let ended = match self.nodes[from].blobs.get(&blob) {
                    _ if stopped || self.links.get(&(to, from)) != Some(&link) => Ended::Broken(self.draws.u64(0..9)),
                    Some(size) => Ended::Here(*size),
                    None => Ended::Absent,
                };
                if let Ended::Here(size) = ended {
                    self.nodes[to].blobs.insert(blob, size);
                }
                let effects = self.nodes[to].exchange.fetched(&blob, ended, self.now);
                self.follow(to, effects);
            }
        }
        true
    }

    pub(crate) fn settle(&mut self) {
        while self.step() {}
    }

    /// How many steps lie between two nodes.
    pub(crate) fn distance(&self, from: usize, is_there: impl Fn(usize) -> bool, most: usize) -> Option<usize> {
        let (mut seen, mut edge) = (BTreeSet::from([from]), vec![from]);
        for steps in 0..=most {
            if edge.iter().any(|node| is_there(*node)) {
                return Some(steps);
            }
            let near =
                edge.iter().flat_map(|node| self.links.range((*node, 0)..(*node + 1, 0)).map(|((_, to), _)| *to));
            let near: Vec<_> = near.filter(|node| !seen.contains(node)).collect();
            seen.extend(near.iter().copied());
            edge = near;
        }
        None
    }
}
