//! Five hundred peers with six links each: what a wanted blob costs them all, and that a want for what nobody has ends.

mod net;

use std::collections::BTreeSet;

use net::{Cost, Net, blob};
use sbot_blobs::{OWN_AGE, Settings};

const PEERS: usize = 500;
/// Links that each peer makes; as many come to it.
const LINKS: usize = 3;

fn network(seed: u64) -> Net {
    let mut draws = fastrand::Rng::with_seed(seed);
    let mut net = Net::new(PEERS, Settings::default(), seed);
    for node in 0..PEERS {
        // a ring, so that everyone is reached, and chords
        net.connect(node, (node + 1) % PEERS);
        (1..LINKS).for_each(|_| net.connect(node, draws.usize(..PEERS)));
    }
    net.settle();
    net.cost = Cost::default();
    net
}

/// The nodes at most so many steps from one.
fn within(net: &Net, node: usize, steps: usize) -> BTreeSet<usize> {
    (0..PEERS).filter(|other| net.distance(*other, |at| at == node, steps).is_some()).collect()
}

fn links_of(net: &Net, nodes: &BTreeSet<usize>) -> usize {
    net.links.keys().filter(|(from, _)| nodes.contains(from)).count()
}

fn waiting(net: &Net) -> usize {
    net.nodes.iter().map(|node| node.exchange.counts().wants_of_others + node.exchange.counts().wants).sum()
}

#[test]
fn a_wanted_blob_costs_no_more_than_the_neighbourhood_of_the_wish() {
    let (mut found, mut total) = (0, Cost::default());
    for seed in 0..10 {
        let mut net = network(seed);
        let (who, has) = (seed as usize, (seed as usize * 53 + 250) % PEERS);
        // those who look for it, and those who are asked
        let (near, asked) = (within(&net, who, 2), links_of(&net, &within(&net, who, 2)));
        net.add(has, blob(1));
        net.settle();
        net.cost = Cost::default();
        net.want(who, blob(1));
        net.settle();
        // once over each link of those who look for it, and once more where a shorter way is found later
        assert!(net.cost.wants <= 2 * asked, "{:?}, {asked} links", net.cost);
        // each of them tells of it when it has it, or answers who asks
        assert!(net.cost.haves <= 2 * asked, "{:?}, {asked} links", net.cost);
        assert!(net.cost.fetches <= near.len(), "{:?}, {} look for it", net.cost, near.len());
        found += usize::from(net.nodes[who].blobs.contains_key(&blob(1)));
        total.wants += net.cost.wants;
        total.haves += net.cost.haves;
        total.fetches += net.cost.fetches;
    }
    println!("of 10 blobs that one of 500 peers has, {found} are within reach; in all {total:?}");
    assert!(found > 0);
}

#[test]
fn a_blob_that_all_want_crosses_no_link_twice() {
    let mut net = network(7);
    net.add(0, blob(1));
    net.settle();
    net.cost = Cost::default();
    for node in 1..PEERS {
        net.want(node, blob(1));
    }
    net.settle();
    println!("a blob that 499 of 500 peers want: {:?}", net.cost);
    assert!(net.nodes.iter().all(|node| node.blobs.contains_key(&blob(1))));
    assert_eq!(net.cost.fetches, PEERS - 1);
    assert!(net.cost.wants <= 2 * net.links.len(), "{:?}", net.cost);
    assert!(net.cost.haves <= 2 * net.links.len(), "{:?}", net.cost);
    assert_eq!(waiting(&net), 0);
}

#[test]
fn a_want_for_a_blob_that_nobody_has_dies_out() {
    let mut net = network(3);
    let asked = links_of(&net, &within(&net, 0, 2));
    net.want(0, blob(1));
    net.settle();
    let told = net.cost;
    assert!(told.wants <= 2 * asked && told.fetches == 0, "{told:?}");
    // nothing is said again, however long it stands
    for _ in 0..48 {
        net.tick(30 * 60 * 1000);
        net.settle();
    }
    assert_eq!(net.cost, told);
    println!("a want for what nobody has: {} links told it once, {told:?}", told.wants);
    // a month after the last request it is given up, and with it what others looked for because of it
    net.tick(OWN_AGE + 1);
    net.settle();
    assert_eq!(waiting(&net), 0);
    assert_eq!(net.cost, told);
}

#[test]
fn a_want_leaves_with_the_peer_that_brought_it() {
    let mut net = network(5);
    net.want(0, blob(1));
    net.settle();
    assert!(waiting(&net) > 1);
    let links: Vec<_> = net.links.keys().filter(|(from, _)| *from == 0).copied().collect();
    links.iter().for_each(|(a, b)| net.disconnect(*a, *b));
    // those that stood for it to others still do until they disconnect; nobody stands for it alone
    let near: Vec<usize> = links.iter().map(|(_, peer)| *peer).collect();
    assert!(near.iter().all(|peer| !net.nodes[*peer].exchange.is_wanted(&blob(1))));
    let links: Vec<_> = net.links.keys().copied().collect();
    links.iter().for_each(|(a, b)| net.disconnect(*a, *b));
    assert_eq!(waiting(&net), 1);
}
