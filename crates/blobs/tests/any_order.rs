//! Whatever is wanted, had, deleted and disconnected in whatever order: in the end every wanted blob that can be reached
//! is there, and nothing is looked for any more.

mod net;

use std::collections::BTreeMap;

use net::{Net, blob, peer};
use proptest::prelude::*;
use sbot_blobs::{Counts, RETRY_PAUSE, Settings};

const NODES: usize = 6;
const BLOBS: u64 = 4;

#[derive(Debug, Clone)]
enum Act {
    Connect(usize, usize),
    Disconnect(usize, usize),
    Want(usize, u64),
    Add(usize, u64),
    Remove(usize, u64),
    Push(usize, u64),
    Steps(usize),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..NODES, 0..NODES).prop_map(|(a, b)| Act::Connect(a, b)),
        2 => (0..NODES, 0..NODES).prop_map(|(a, b)| Act::Disconnect(a, b)),
        3 => (0..NODES, 0..BLOBS).prop_map(|(node, id)| Act::Want(node, id)),
        2 => (0..NODES, 0..BLOBS).prop_map(|(node, id)| Act::Add(node, id)),
        1 => (0..NODES, 0..BLOBS).prop_map(|(node, id)| Act::Remove(node, id)),
        1 => (0..NODES, 0..BLOBS).prop_map(|(node, id)| Act::Push(node, id)),
        6 => (0..12usize).prop_map(Act::Steps),
        1 => (0..20_000u64).prop_map(Act::Pass),
    ];
    proptest::collection::vec(act, 0..80)
}

fn play(net: &mut Net, acts: &[Act]) {
    for act in acts {
        match *act {
            Act::Connect(a, b) => net.connect(a, b),
            Act::Disconnect(a, b) => net.disconnect(a, b),
            Act::Want(node, id) => net.want(node, blob(id)),
            Act::Add(node, id) => net.add(node, blob(id)),
            Act::Remove(node, id) => net.remove(node, blob(id)),
            Act::Push(node, id) => {
                net.add(node, blob(id));
                net.push(node, blob(id));
            }
            Act::Steps(count) => (0..count).for_each(|_| {
                net.step();
            }),
            Act::Pass(time) => net.tick(time),
        }
    }
}

/// Lets everything that is under way arrive, and pauses pass.
fn come_to_rest(net: &mut Net) {
    for attempt in 0..6 {
        net.settle();
        net.tick(RETRY_PAUSE << attempt);
    }
    net.settle();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_wanted_blob_that_can_be_reached_comes_and_no_want_is_left(acts in acts(), seed in any::<u64>()) {
        let settings = Settings { pushy: 1, ..Settings::default() };
        let mut net = Net::new(NODES, settings, seed);
        play(&mut net, &acts);
        come_to_rest(&mut net);
        let reach = usize::from(settings.sympathy);
        for node in 0..NODES {
            for id in (0..BLOBS).map(blob) {
                let near = net.distance(node, |other| net.nodes[other].blobs.contains_key(&id), reach);
                let waits = net.nodes[node].waiting.contains(&id);
                prop_assert!(!waits || near.is_none(), "node {node} waits for {id}, {near:?} steps away");
                prop_assert_eq!(net.nodes[node].exchange.is_wanted(&id), waits);
            }
            prop_assert_eq!(net.nodes[node].exchange.counts().fetches, 0);
        }
        // what only others wanted leaves with them
        let links: Vec<_> = net.links.keys().copied().collect();
        links.iter().for_each(|(a, b)| net.disconnect(*a, *b));
        net.settle();
        for node in &net.nodes {
            let Counts { wants, wants_of_others, peers, fetches, .. } = node.exchange.counts();
            prop_assert_eq!((wants, wants_of_others, peers, fetches), (node.waiting.len(), 0, 0, 0));
        }
    }

    #[test]
    fn the_same_draws_give_the_same_ends(acts in acts(), seed in any::<u64>()) {
        let run = || {
            let mut net = Net::new(NODES, Settings::default(), seed);
            play(&mut net, &acts);
            come_to_rest(&mut net);
            let blobs: BTreeMap<_, _> = net.nodes.iter().enumerate().map(|(at, node)| (peer(at), node.blobs.clone())).collect();
            (blobs, net.cost)
        };
        prop_assert_eq!(run(), run());
    }
}
