//! The edges, and distances computed from scratch.

use std::collections::HashMap;

use sbot_feed::FeedId;

/// What a feed last said of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// It follows.
    Follow,
    /// It blocks.
    Block,
    /// It did one or the other, and does neither any more.
    None,
}

/// Follows and blocks among any number of feeds: for each pair what was said last.
///
/// Takes 4 bytes an edge, 4 more a follow, and some 100 a feed.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    numbers: HashMap<FeedId, u32>,
    feeds: Vec<FeedId>,
    /// By feed number, sorted by target.
    edges: Vec<Vec<Edge>>,
    /// Who follows, by feed number, sorted.
    followers: Vec<Vec<u32>>,
}

/// A target's number above two bits of relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge(u32);

/// Most feeds that the graph tells apart: what the 30 bits of [`Edge`] can name. Edges of others are ignored.
const MAX_FEEDS: usize = 1 << 30;

impl Edge {
    fn new(to: u32, relation: Relation) -> Edge {
        let bits = match relation {
            Relation::None => 0,
            Relation::Follow => 1,
            Relation::Block => 2,
        };
        Edge(to << 2 | bits)
    }

    pub(crate) fn to(self) -> u32 {
        self.0 >> 2
    }

    pub(crate) fn relation(self) -> Relation {
        match self.0 & 3 {
            1 => Relation::Follow,
            2 => Relation::Block,
            _ => Relation::None,
        }
    }
}

/// No distance: out of reach.
pub(crate) const FAR: i32 = i32::MIN;

/// The distance of an edge's target, from that of a feed at `hops` ≥ 0.
pub(crate) fn along(hops: i32, relation: Relation) -> i32 {
    match relation {
        Relation::Follow => hops.saturating_add(1),
        Relation::Block => -hops.saturating_add(1),
        Relation::None => -hops.saturating_add(2),
    }
}

/// Whichever distance counts: the one nearer to 0, a follow before a block.
pub(crate) fn nearer(one: i32, other: i32) -> i32 {
    match (one, other) {
        (FAR, hops) | (hops, FAR) => hops,
        _ if one.unsigned_abs() == other.unsigned_abs() => one.max(other),
        _ if one.unsigned_abs() < other.unsigned_abs() => one,
        _ => other,
    }
}

impl Graph {
    /// Nobody knows anybody.
    #[must_use]
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Notes what `from` says of `to`; answers whether that changes anything.
    pub fn apply(&mut self, from: FeedId, to: FeedId, relation: Relation) -> bool {
        self.set(from, to, relation).is_some()
    }

    /// As [`Graph::apply`]; answers with the numbers of the two and what was said before, if anything changes.
    pub(crate) fn set(&mut self, from: FeedId, to: FeedId, relation: Relation) -> Option<(u32, u32, Option<Relation>)> {
        let (from, to) = (self.number(from)?, self.number(to)?);
        let edges = self.edges.get_mut(from as usize)?;
        let edge = Edge::new(to, relation);
        let changed = match edges.binary_search_by_key(&to, |edge| edge.to()) {
            Ok(at) => {
                let old = std::mem::replace(edges.get_mut(at)?, edge);
                (old != edge).then(|| (from, to, Some(old.relation())))
            }
            Err(at) => {
                edges.insert(at, edge);
                Some((from, to, None))
            }
        };
        if changed.is_some() {
            self.note_follower(from, to, relation == Relation::Follow);
        }
        changed
    }

    fn note_follower(&mut self, from: u32, to: u32, follows: bool) {
        let Some(followers) = self.followers.get_mut(to as usize) else { return };
        match (followers.binary_search(&from), follows) {
            (Err(at), true) => followers.insert(at, from),
            (Ok(at), false) => {
                followers.remove(at);
            }
            _ => {}
        }
    }

    fn number(&mut self, feed: FeedId) -> Option<u32> {
        if let Some(number) = self.numbers.get(&feed) {
            return Some(*number);
        }
        let number = u32::try_from(self.feeds.len()).ok().filter(|_| self.feeds.len() < MAX_FEEDS)?;
        self.numbers.insert(feed, number);
        self.feeds.push(feed);
        self.edges.push(Vec::new());
        self.followers.push(Vec::new());
        Some(number)
    }

    pub(crate) fn find(&self, feed: &FeedId) -> Option<u32> {
        self.numbers.get(feed).copied()
    }

    pub(crate) fn feed(&self, number: u32) -> Option<FeedId> {
        self.feeds.get(number as usize).copied()
    }

    pub(crate) fn edges_of(&self, number: u32) -> &[Edge] {
        self.edges.get(number as usize).map_or(&[], Vec::as_slice)
    }

    /// How many feeds said something or had something said of them.
    #[must_use]
    pub fn feeds(&self) -> usize {
        self.feeds.len()
    }

    /// What `from` last said of `to`.
    #[must_use]
    pub fn relation(&self, from: &FeedId, to: &FeedId) -> Option<Relation> {
        let to = self.find(to)?;
        let edges = self.edges_of(self.find(from)?);
        edges.binary_search_by_key(&to, |edge| edge.to()).ok().and_then(|at| edges.get(at)).map(|edge| edge.relation())
    }

    /// Whether `from` follows `to`.
    #[must_use]
    pub fn is_following(&self, from: &FeedId, to: &FeedId) -> bool {
        self.relation(from, to) == Some(Relation::Follow)
    }

    /// Whether `from` blocks `to`.
    #[must_use]
    pub fn is_blocking(&self, from: &FeedId, to: &FeedId) -> bool {
        self.relation(from, to) == Some(Relation::Block)
    }

    /// Who follows `to`; in no order that means anything.
    pub fn followers(&self, to: &FeedId) -> impl Iterator<Item = FeedId> + '_ {
        self.follower_numbers(to).iter().filter_map(|number| self.feed(*number))
    }

    pub(crate) fn follower_numbers(&self, to: &FeedId) -> &[u32] {
        self.find(to).and_then(|number| self.followers.get(number as usize)).map_or(&[], Vec::as_slice)
    }

    /// Of whom `from` said something, and what; in no order that means anything.
    pub fn said_by(&self, from: &FeedId) -> impl Iterator<Item = (FeedId, Relation)> + '_ {
        let edges = self.find(from).map_or(&[][..], |number| self.edges_of(number));
        edges.iter().filter_map(|edge| Some((self.feed(edge.to())?, edge.relation())))
    }

    /// All edges: who said what of whom.
    pub fn edges(&self) -> impl Iterator<Item = (FeedId, FeedId, Relation)> + '_ {
        self.feeds.iter().zip(&self.edges).flat_map(move |(from, edges)| {
            edges.iter().filter_map(move |edge| Some((*from, self.feed(edge.to())?, edge.relation())))
        })
    }

    /// Distances from `root`, feeds at `max` looked at no further; blocked and unfollowed feeds are negative. The module
    /// page says how they come about. `root` itself is 0 even if nobody knows it.
    #[must_use]
    pub fn hops(&self, root: &FeedId, max: i32) -> HashMap<FeedId, i32> {
        let Some(start) = self.find(root) else { return HashMap::from([(*root, 0)]) };
        self.named(&self.distances(start, max))
    }

    /// Distances against the direction of the edges: who reaches `root` (`reverse` of `friends.hops`).
    #[must_use]
    pub fn reverse_hops(&self, root: &FeedId, max: i32) -> HashMap<FeedId, i32> {
        let mut reversed = Graph::new();
        for (from, to, relation) in self.edges() {
            reversed.apply(to, from, relation);
        }
        reversed.hops(root, max)
    }

    fn named(&self, hops: &[i32]) -> HashMap<FeedId, i32> {
        self.feeds.iter().zip(hops).filter(|(_, hops)| **hops != FAR).map(|(feed, hops)| (*feed, *hops)).collect()
    }

    /// Distances by feed number, level by level: once all feeds at distance `d` have been looked at, everything up to
    /// `d + 1` is final.
    pub(crate) fn distances(&self, start: u32, max: i32) -> Vec<i32> {
        let mut hops = vec![FAR; self.feeds.len()];
        if let Some(first) = hops.get_mut(start as usize) {
            *first = 0;
        }
        let (mut level, mut depth) = (vec![start], 0);
        while depth < max && !level.is_empty() {
            let mut next = Vec::new();
            for number in level {
                // a block at this very distance may have been overridden since, but never a follow
                for edge in self.edges_of(number) {
                    let Some(known) = hops.get_mut(edge.to() as usize) else { continue };
                    let new = nearer(*known, along(depth, edge.relation()));
                    if new != *known {
                        *known = new;
                        if new == depth + 1 {
                            next.push(edge.to());
                        }
                    }
                }
            }
            depth += 1;
            level = next;
        }
        hops
    }
}
