//! The network comes and goes.

use super::*;

#[test]
fn a_new_network_ends_all_links_and_spreads_the_dials() {
    let peers: Vec<_> = (1..=6).map(|number| FeedId([number; 32])).collect();
    let mut world = World::knowing(&peers);
    for peer in &peers {
        world.connect(*peer);
        world.succeed(*peer);
    }
    world.act(Action::NetworkDidReconnect);
    assert_eq!(world.hung_up().len(), 6);
    assert_eq!(world.state.links(), (0, 0));
    let times: std::collections::BTreeSet<_> =
        peers.iter().filter_map(|peer| world.state.peer(peer).unwrap().next_try()).collect();
    assert!(times.len() > 3 && times.iter().all(|time| *time < world.now + world.state.settings().spread), "{times:?}");
}

#[test]
fn backoffs_of_peers_that_were_reached_are_lifted_and_those_of_dead_addresses_are_not() {
    let mut world = World::knowing(&[SMALL, GREAT]);
    world.route(SMALL, ROUTE, Source::Manual);
    let link = world.succeed(SMALL);
    world.ends(SMALL, link);
    for peer in [SMALL, GREAT] {
        world.route(peer, ROUTE, Source::Manual);
        for _ in 0..5 {
            if world.status(peer) == Status::Disconnected {
                world.wait_for(peer);
            }
            world.fail(peer);
        }
    }
    let before = world.state.peer(&GREAT).unwrap().next_try();
    world.act(Action::SystemDidWake);
    // Its failures are not forgotten, so it follows those that are likely there.
    let spread = world.state.settings().spread;
    let next = world.state.peer(&SMALL).unwrap().next_try().unwrap() - world.now;
    assert!((spread..2 * spread).contains(&next) && world.state.peer(&SMALL).unwrap().failures > 2);
    assert_eq!((world.state.peer(&GREAT).unwrap().next_try(), before.is_some()), (before, true));
}

#[test]
fn without_a_network_only_links_within_the_machine_live_on_and_nobody_is_dialed() {
    let mut world = World::new();
    world.route(SMALL, "net:127.0.0.1:8008~shs:x", Source::Seed).route(GREAT, &public(1), Source::Seed);
    world.succeed(SMALL);
    let link = world.succeed(GREAT);
    world.route(peer(3), &public(3), Source::Seed);
    assert_eq!(world.dialing(), [peer(3)]);
    world.act(Action::NetworkDidDisconnect);
    assert_eq!(world.hung_up(), [(link, WhyHungUp::NetworkGone)]);
    assert_eq!((world.status(SMALL), world.dialing()), (Status::Connected, vec![]));
    world.wait(600_000);
    assert_eq!((world.dialing(), world.state.why(&GREAT)), (vec![], Why::Offline));
    world.connect(GREAT);
    assert_eq!(world.dialing(), [GREAT], "the user may try");
    world.act(Action::NetworkDidReconnect);
    world.wait(world.state.settings().spread);
    assert_eq!(world.dialing(), [SMALL, peer(3), GREAT]);
}

#[test]
fn a_woken_machine_spreads_its_redials() {
    let mut world = World::new();
    for number in 1..=8 {
        world.route(peer(number), &public(number), Source::Seed);
        world.succeed(peer(number));
    }
    world.act(Action::SystemDidWake);
    assert_eq!(world.hung_up().len(), 8);
    assert!(world.hung_up().iter().all(|(_, why)| *why == WhyHungUp::Slept));
    assert!(world.dialing().len() < 3, "no stampede");
    world.wait(world.state.settings().spread);
    assert_eq!(world.dialing().len(), 8);
}
