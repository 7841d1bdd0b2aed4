//! Distances from one root, kept up to date.

use std::collections::HashMap;

use sbot_feed::FeedId;

use crate::Relation;
use crate::graph::{FAR, Graph, along, nearer};

/// One feed's new distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopsChange {
    /// The feed.
    pub feed: FeedId,
    /// Its distance before, if it had one.
    pub before: Option<i32>,
    /// Its distance now; `None` if it went out of reach.
    pub after: Option<i32>,
}

/// Distances from one root, kept up while edges come in.
///
/// Most edges change no distance and cost next to nothing; one that brings a feed at the rim nearer is settled on the
/// spot; after any other, distances are computed anew when someone asks ([`HopsView::refresh`]), once for all edges that
/// came until then.
#[derive(Debug, Clone)]
pub struct HopsView {
    root: FeedId,
    max: i32,
    /// By feed number; shorter than the graph where feeds are out of reach.
    hops: Vec<i32>,
    /// What was reported last, for feeds that changed on the spot since.
    before: HashMap<u32, i32>,
    dirty: bool,
}

impl HopsView {
    /// Distances from `root` as far as `max` in `graph`.
    #[must_use]
    pub fn new(graph: &Graph, root: FeedId, max: i32) -> HopsView {
        let mut view = HopsView { root, max, hops: Vec::new(), before: HashMap::new(), dirty: true };
        view.refresh(graph);
        view
    }

    /// Notes in `graph` what `from` says of `to`; answers whether that changes the graph.
    ///
    /// Edges of a graph with a view have to come this way; after others, call [`HopsView::recompute`].
    pub fn apply(&mut self, graph: &mut Graph, from: FeedId, to: FeedId, relation: Relation) -> bool {
        let Some((from, to, old)) = graph.set(from, to, relation) else { return false };
        if graph.find(&self.root).is_some_and(|root| self.at(root) == FAR) {
            // the root has only now become known to the graph
            self.dirty = true;
        }
        let hops = self.at(from);
        if self.dirty || !(0..self.max).contains(&hops) {
            return true;
        }
        let known = self.at(to);
        let may_have_counted = old.is_some_and(|old| along(hops, old) == known);
        let new = nearer(known, along(hops, relation));
        if may_have_counted {
            self.dirty |= along(hops, relation) != known;
        } else if new != known {
            // whoever is expanded, or was, changes others too
            if (0..self.max).contains(&new) || (0..self.max).contains(&known) {
                self.dirty = true;
            } else {
                self.before.entry(to).or_insert(known);
                self.set(to, new);
            }
        }
        true
    }

    /// Distances are to be computed anew: the graph changed otherwise than by [`HopsView::apply`].
    pub fn recompute(&mut self) {
        self.dirty = true;
    }

    /// Brings distances up to date; answers what changed since the last call, in order of feeds.
    pub fn refresh(&mut self, graph: &Graph) -> Vec<HopsChange> {
        let name = |hops: i32| (hops != FAR).then_some(hops);
        let mut changes: Vec<HopsChange> = Vec::new();
        let mut note = |number: u32, before: i32, after: i32| {
            if before != after
                && let Some(feed) = graph.feed(number)
            {
                changes.push(HopsChange { feed, before: name(before), after: name(after) });
            }
        };
        let before = std::mem::take(&mut self.before);
        if self.dirty {
            let new = graph.find(&self.root).map_or_else(Vec::new, |root| graph.distances(root, self.max));
            for (number, after) in (0..).zip(&new) {
                let known = before.get(&number).copied().unwrap_or_else(|| self.at(number));
                note(number, known, *after);
            }
            self.hops = new;
            self.dirty = false;
        } else {
            for (number, known) in before {
                note(number, known, self.at(number));
            }
        }
        changes.sort_unstable_by_key(|change| change.feed);
        changes
    }

    /// Whether [`HopsView::refresh`] may have something to report.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.dirty || !self.before.is_empty()
    }

    /// The distance of `feed`, as of the last [`HopsView::refresh`] or nearer to the truth.
    #[must_use]
    pub fn hops_of(&self, graph: &Graph, feed: &FeedId) -> Option<i32> {
        if *feed == self.root {
            return Some(0);
        }
        graph.find(feed).map(|number| self.at(number)).filter(|hops| *hops != FAR)
    }

    /// Whether any feed that follows `feed` is within reach, as of the last [`HopsView::refresh`] or nearer to the truth.
    #[must_use]
    pub fn is_followed_from_within(&self, graph: &Graph, feed: &FeedId) -> bool {
        graph.follower_numbers(feed).iter().any(|follower| (0..=self.max).contains(&self.at(*follower)))
    }

    /// All distances, as of the last [`HopsView::refresh`] or nearer to the truth.
    #[must_use]
    pub fn hops(&self, graph: &Graph) -> HashMap<FeedId, i32> {
        let mut all: HashMap<FeedId, i32> = (0..)
            .zip(&self.hops)
            .filter(|(_, hops)| **hops != FAR)
            .filter_map(|(number, hops)| Some((graph.feed(number)?, *hops)))
            .collect();
        all.insert(self.root, 0);
        all
    }

    fn at(&self, number: u32) -> i32 {
        self.hops.get(number as usize).copied().unwrap_or(FAR)
    }

    fn set(&mut self, number: u32, hops: i32) {
        let at = number as usize;
        if self.hops.len() <= at {
            self.hops.resize(at + 1, FAR);
        }
        if let Some(place) = self.hops.get_mut(at) {
            *place = hops;
        }
    }
}
