//! Distances: facts by hand, and the kept view against distances from scratch.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use sbot_feed::FeedId;
use sbot_graph::{Graph, HopsView, Relation};

fn feed(number: u8) -> FeedId {
    FeedId([number; 32])
}

fn graph(edges: &[(u8, u8, Relation)]) -> Graph {
    let mut graph = Graph::new();
    for (from, to, relation) in edges {
        graph.apply(feed(*from), feed(*to), *relation);
    }
    graph
}

fn hops(graph: &Graph, root: u8, max: i32) -> BTreeMap<u8, i32> {
    graph.hops(&feed(root), max).into_iter().map(|(feed, hops)| (feed.0[0], hops)).collect()
}

use Relation::{Block, Follow, None as Nothing};

#[test]
fn follows_are_counted_from_the_root_up_to_the_maximum() {
    let graph = graph(&[(0, 1, Follow), (1, 2, Follow), (2, 3, Follow), (3, 4, Follow), (5, 0, Follow)]);
    assert_eq!(hops(&graph, 0, 3), BTreeMap::from([(0, 0), (1, 1), (2, 2), (3, 3)]));
    assert_eq!(hops(&graph, 0, 1), BTreeMap::from([(0, 0), (1, 1)]));
    assert_eq!(hops(&graph, 9, 3), BTreeMap::from([(9, 0)]));
}

#[test]
fn a_block_by_the_root_overrides_every_follow() {
    let graph = graph(&[(0, 1, Follow), (1, 2, Follow), (0, 2, Block), (2, 3, Follow)]);
    assert_eq!(hops(&graph, 0, 3), BTreeMap::from([(0, 0), (1, 1), (2, -1)]));
}

#[test]
fn a_friends_block_counts_only_without_a_follow_as_near() {
    let blocked = graph(&[(0, 1, Follow), (1, 2, Block), (2, 3, Follow)]);
    assert_eq!(hops(&blocked, 0, 3), BTreeMap::from([(0, 0), (1, 1), (2, -2)]));
    let followed = graph(&[(0, 1, Follow), (1, 2, Block), (0, 4, Follow), (4, 2, Follow), (2, 3, Follow)]);
    assert_eq!(hops(&followed, 0, 3), BTreeMap::from([(0, 0), (1, 1), (2, 2), (3, 3), (4, 1)]));
}

#[test]
fn an_unfollowed_feed_is_negative_until_a_friend_follows_it() {
    let mut graph = graph(&[(0, 1, Follow), (0, 2, Follow)]);
    graph.apply(feed(0), feed(2), Nothing);
    assert_eq!(hops(&graph, 0, 3), BTreeMap::from([(0, 0), (1, 1), (2, -2)]));
    graph.apply(feed(1), feed(2), Follow);
    assert_eq!(hops(&graph, 0, 3), BTreeMap::from([(0, 0), (1, 1), (2, 2)]));
}

#[test]
fn following_oneself_changes_nothing() {
    let graph = graph(&[(0, 0, Follow), (0, 1, Follow), (1, 0, Block)]);
    assert_eq!(hops(&graph, 0, 3), BTreeMap::from([(0, 0), (1, 1)]));
}

#[test]
fn reverse_hops_go_against_the_edges() {
    let graph = graph(&[(0, 1, Follow), (1, 2, Follow), (3, 2, Block)]);
    let reverse: BTreeMap<u8, i32> =
        graph.reverse_hops(&feed(2), 3).into_iter().map(|(feed, hops)| (feed.0[0], hops)).collect();
    assert_eq!(reverse, BTreeMap::from([(2, 0), (1, 1), (0, 2), (3, -1)]));
}

#[test]
fn what_was_said_last_counts() {
    let mut graph = graph(&[(0, 1, Follow)]);
    assert!(!graph.apply(feed(0), feed(1), Follow));
    assert!(graph.apply(feed(0), feed(1), Block));
    assert!(graph.is_blocking(&feed(0), &feed(1)) && !graph.is_following(&feed(0), &feed(1)));
    assert_eq!(graph.relation(&feed(1), &feed(0)), None);
    assert_eq!(graph.said_by(&feed(0)).collect::<Vec<_>>(), [(feed(1), Block)]);
}

/// As dynamic-dijkstra's `traverse` does it, on a map of maps, by repeating until nothing changes.
#[test]
fn followers_are_those_who_follow_now_and_a_view_knows_whether_any_is_within_reach() {
    let mut graph = graph(&[(0, 1, Follow), (1, 2, Follow), (2, 3, Follow), (4, 3, Follow), (0, 3, Relation::None)]);
    let followers = |graph: &Graph| {
        let mut all: Vec<_> = graph.followers(&feed(3)).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(followers(&graph), [feed(2), feed(4)]);
    assert!(HopsView::new(&graph, feed(0), 2).is_followed_from_within(&graph, &feed(3)));
    assert!(!HopsView::new(&graph, feed(0), 1).is_followed_from_within(&graph, &feed(3)));
    graph.apply(feed(2), feed(3), Block);
    graph.apply(feed(2), feed(3), Block);
    assert_eq!(followers(&graph), [feed(4)]);
    assert!(!HopsView::new(&graph, feed(0), 2).is_followed_from_within(&graph, &feed(3)));
}

fn by_the_book(graph: &Graph, root: FeedId, max: i32) -> HashMap<FeedId, i32> {
    let mut hops = HashMap::from([(root, 0)]);
    loop {
        let mut next = HashMap::from([(root, 0)]);
        for (from, to, relation) in graph.edges() {
            let Some(at) = hops.get(&from).copied().filter(|at| (0..max).contains(at)) else { continue };
            let new: i32 = match relation {
                Follow => at + 1,
                Block => -at - 1,
                Nothing => -at - 2,
            };
            let best = next.entry(to).or_insert(new);
            if (new.abs(), -new) < (best.abs(), -*best) {
                *best = new;
            }
        }
        if next == hops {
            return hops;
        }
        hops = next;
    }
}

fn an_edge() -> impl Strategy<Value = (u8, u8, Relation)> {
    (0u8..12, 0u8..12, prop_oneof![4 => Just(Follow), 1 => Just(Block), 1 => Just(Nothing)])
}

proptest! {
    #[test]
    fn distances_are_those_of_the_definition(
        edges in proptest::collection::vec(an_edge(), 0..60), max in 0i32..5
    ) {
        let graph = graph(&edges);
        prop_assert_eq!(graph.hops(&feed(0), max), by_the_book(&graph, feed(0), max));
    }

    #[test]
    fn a_kept_view_equals_distances_from_scratch_and_its_changes_add_up(
        edges in proptest::collection::vec((an_edge(), any::<bool>()), 0..120), max in 0i32..5
    ) {
        let mut graph = Graph::new();
        let mut view = HopsView::new(&graph, feed(0), max);
        let mut told: HashMap<FeedId, i32> = HashMap::from([(feed(0), 0)]);
        for ((from, to, relation), look) in edges {
            view.apply(&mut graph, feed(from), feed(to), relation);
            if !look {
                continue;
            }
            for change in view.refresh(&graph) {
                if change.feed == feed(0) {
                    prop_assert_eq!(change.after, Some(0));
                    continue;
                }
                prop_assert_eq!(told.get(&change.feed).copied(), change.before);
                match change.after {
                    Some(hops) => told.insert(change.feed, hops),
                    None => told.remove(&change.feed),
                };
            }
            prop_assert!(!view.is_stale());
            let scratch = graph.hops(&feed(0), max);
            prop_assert_eq!(&view.hops(&graph), &scratch);
            prop_assert_eq!(&told, &scratch);
        }
    }
}
