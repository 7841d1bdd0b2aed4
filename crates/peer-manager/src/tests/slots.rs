//! Slots: who fills them, in which order, and who makes room.

use super::*;

const HOUR: Millis = 3_600_000;

impl World {
    /// A pub that is known from the log, at this distance.
    fn candidate(&mut self, number: u8, hops: Option<u32>) -> FeedId {
        self.route(peer(number), &public(number), Source::Pub);
        self.act(Action::PeerPrioritised { peer: peer(number), hops });
        peer(number)
    }

    fn connected(&self) -> Vec<FeedId> {
        let peers = self.state.peers().filter(|(_, peer)| peer.status() == Status::Connected);
        peers.map(|(key, _)| *key).collect()
    }

    fn stopped(change: impl FnOnce(&mut Settings)) -> World {
        let mut world = World::with(change);
        world.act(Action::SchedulerStopped);
        world
    }
}

#[test]
fn candidates_fill_the_slots_of_their_kind_and_no_more() {
    let mut world = World::stopped(|_| {});
    for number in 1..=9 {
        world.candidate(number, Some(1));
    }
    world.route(peer(20), "onion:abc.onion:8008~shs:x", Source::Manual);
    world.act(Action::SchedulerStarted);
    let most = world.state.settings().internet.most;
    assert_eq!((world.dialing().len(), world.state.slots_taken(Kind::Internet)), (most + 1, most));
    assert_eq!(world.state.slots_taken(Kind::Onion), 1);
    for key in world.dialing() {
        world.succeed(key);
    }
    assert_eq!(world.connected().len(), most + 1);
    assert_eq!(world.state.why(&peer(9)), Why::SlotsTaken { kind: Kind::Internet, most });
}

#[test]
fn long_term_peers_go_first_then_those_we_follow_then_by_hops_then_who_was_tried_longest_ago() {
    let mut world = World::stopped(|settings| (settings.internet.most, settings.most_dials) = (10, 1));
    world.candidate(1, None);
    world.candidate(2, Some(3));
    world.candidate(3, Some(2));
    world.candidate(4, Some(1));
    world.candidate(5, Some(1));
    world.candidate(6, Some(2));
    world.act(Action::LongTermSet { peer: peer(6), on: true });
    world.connect(peer(1)).fail(peer(1));
    world.act(Action::RemotePeerDisconnect { peer: peer(1) }).act(Action::LongTermSet { peer: peer(1), on: false });
    // Tried before the other one that we follow.
    world.connect(peer(4));
    let link = world.succeed(peer(4));
    world.act(Action::LongTermSet { peer: peer(4), on: false }).ends(peer(4), link);
    world.now += HOUR;
    world.act(Action::SchedulerStarted);
    let mut order = Vec::new();
    while let [key] = world.dialing()[..] {
        order.push(key);
        world.succeed(key);
    }
    assert_eq!(order, [6, 5, 4, 3, 2, 1].map(peer));
}

#[test]
fn failures_lower_the_priority_step_by_step_and_a_success_restores_it() {
    let mut world = World::with(|settings| settings.internet.most = 1);
    let key = world.candidate(1, Some(1));
    let mut seen = vec![];
    for _ in 0..5 {
        if world.status(key) == Status::Disconnected {
            world.wait_for(key);
        }
        world.fail(key);
        seen.push(world.state.peer(&key).unwrap().priority(world.state.settings()));
    }
    use Priority::{High, Low, Medium};
    assert_eq!(seen, [High, Medium, Medium, Low, Low]);
    world.wait_for(key);
    let link = world.succeed(key);
    world.now += HOUR;
    world.ends(key, link);
    assert_eq!(world.state.peer(&key).unwrap().priority(world.state.settings()), High);
}

#[test]
fn who_never_was_reached_is_forgotten_in_the_end_and_not_taken_up_again_for_a_while() {
    let mut world = World::new();
    let key = world.candidate(1, None);
    let mut dials = 0;
    while world.state.peer(&key).is_some() {
        if world.status(key) == Status::Disconnected {
            world.wait_for(key);
        }
        world.fail(key);
        dials += 1;
        assert!(dials < 40, "it is never forgotten");
    }
    let settings = world.state.settings().clone();
    assert!(dials >= settings.forget_failures && world.now >= 1_000_000 + settings.forget_after);
    assert!(matches!(world.state.why(&key), Why::GivenUp { .. }));
    world.candidate(1, None);
    assert!(world.state.peer(&key).is_none(), "a feed still tells of it");
    world.now += settings.forget_for;
    world.candidate(1, None);
    assert_eq!(world.dialing(), [key]);
}

#[test]
fn a_user_takes_up_a_forgotten_peer_at_once() {
    let mut world = World::with(|settings| (settings.forget_failures, settings.forget_after) = (1, 0));
    let key = world.candidate(1, None);
    world.fail(key);
    assert!(world.state.peer(&key).is_none());
    world.route(key, &public(1), Source::Manual);
    assert_eq!(world.dialing(), [key]);
}

#[test]
fn forgotten_peers_are_bounded() {
    let mut world = World::with(|settings| {
        (settings.forget_failures, settings.forget_after, settings.most_forgotten) = (1, 0, 3);
    });
    for number in 0..9 {
        world.now += HOUR;
        let key = world.candidate(number, None);
        world.fail(key);
    }
    assert_eq!(world.state.saved().forgotten.len(), 3);
    assert!(matches!(world.state.why(&peer(8)), Why::GivenUp { .. }));
}

/// With every slot taken by peers 1 to 4 that we follow, and others waiting.
fn full() -> World {
    let mut world = World::new();
    for number in 1..=4 {
        let key = world.candidate(number, Some(1));
        world.succeed(key);
        world.now += 1_000;
    }
    world.candidate(5, Some(1));
    world.candidate(6, Some(1));
    assert_eq!(world.dialing(), []);
    world
}

#[test]
fn a_link_whose_time_is_over_goes_when_another_one_that_waited_is_connected() {
    let mut world = full();
    world.wait(2 * HOUR);
    assert_eq!((world.dialing(), world.connected().len()), (vec![peer(5)], 4));
    world.fail(peer(5));
    assert_eq!((world.hung_up(), world.dialing()), (vec![], vec![]), "no link is given away for a dead address");
    world.wait(world.state.settings().probe_pause);
    assert_eq!(world.dialing(), [peer(6)]);
    world.succeed(peer(6));
    assert_eq!(world.hung_up(), [(LinkId(1), WhyHungUp::Rotated)]);
    world.ends(peer(1), LinkId(1));
    assert_eq!((world.connected().len(), world.state.slots_taken(Kind::Internet)), (4, 4));
}

#[test]
fn nobody_goes_before_its_time_or_if_nobody_waits() {
    let mut world = full();
    world.wait(2 * HOUR - 10_000);
    assert_eq!(world.dialing(), []);
    for number in [5, 6] {
        world.act(Action::PeerForgotten { peer: peer(number) });
    }
    world.wait(100 * HOUR);
    assert_eq!((world.dialing(), world.connected().len()), (vec![], 4));
}

#[test]
fn a_link_over_which_something_is_transferred_stays_and_a_stalled_one_does_not() {
    let mut world = full();
    for number in 1..=4 {
        world.act(Action::DownloadStarted { peer: peer(number) });
    }
    world.now += 2 * HOUR - 20_000;
    for number in 1..=4 {
        world.act(Action::DownloadProgressed { peer: peer(number) });
    }
    world.wait(30_000);
    assert_eq!(world.dialing(), []);
    world.act(Action::DownloadFinished { peer: peer(3) });
    world.succeed(peer(5));
    assert_eq!(world.hung_up(), [(LinkId(3), WhyHungUp::Rotated)], "the only one that is idle");
    world.ends(peer(3), LinkId(3));
    world.wait(world.state.settings().probe_pause);
    world.succeed(peer(6));
    assert_eq!(world.hung_up().len(), 1, "nothing came for long");
}

#[test]
fn held_links_never_rotate_and_worse_candidates_wait() {
    let mut world = full();
    for number in 1..=3 {
        world.act(Action::LongTermSet { peer: peer(number), on: true });
    }
    for number in [5, 6] {
        world.act(Action::PeerPrioritised { peer: peer(number), hops: None });
    }
    world.wait(5 * HOUR);
    assert_eq!(world.dialing(), [], "a stranger is no reason to leave a friend");
    world.act(Action::PeerPrioritised { peer: peer(5), hops: Some(1) });
    world.succeed(peer(5));
    assert_eq!(world.hung_up(), [(LinkId(4), WhyHungUp::Rotated)]);
}

#[test]
fn one_that_is_to_be_connected_always_takes_the_place_of_a_candidate() {
    let mut world = World::with(|settings| (settings.most_outbound, settings.internet.most) = (3, 3));
    for number in 1..=3 {
        let key = world.candidate(number, (number < 3).then_some(1));
        world.succeed(key);
    }
    world.route(GREAT, ROUTE, Source::Seed);
    assert_eq!(world.hung_up(), [(LinkId(3), WhyHungUp::MakesRoom)], "the one of the lowest priority");
    world.route(SMALL, ROUTE, Source::Seed);
    assert!(world.hung_up().is_empty(), "one at a time");
    world.ends(peer(3), LinkId(3));
    assert_eq!(world.dialing(), [GREAT]);
}

#[test]
fn when_one_dial_after_another_fails_candidates_are_dialed_more_slowly() {
    let mut world = World::stopped(|settings| (settings.internet.most, settings.most_peers) = (1, 300));
    for number in 1..=200 {
        world.candidate(number, None);
    }
    world.act(Action::SchedulerStarted);
    let mut at = Vec::new();
    for _ in 0..40 {
        let [key] = world.dialing()[..] else { panic!("one is dialed at a time") };
        at.push(world.now);
        world.fail(key);
        while world.dialing().is_empty() {
            world.now = world.state.wake.unwrap();
            world.act(Action::PeerConnectionTimerTicked);
        }
    }
    let free = world.state.settings().brake_after as usize;
    assert!(at[..free].windows(2).all(|pair| pair[0] == pair[1]));
    let pauses: Vec<_> = at[free + 5..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    let most = world.state.settings().brake_most;
    assert!(pauses.iter().all(|pause| (most / 3..=most).contains(pause)), "{pauses:?}");
    let [key] = world.dialing()[..] else { panic!() };
    let link = world.succeed(key);
    world.ends(key, link);
    assert_eq!(world.dialing().len(), 1, "a success lifts it");
}

#[test]
fn while_our_log_is_far_behind_few_are_dialed_the_best_first() {
    let mut world = World::stopped(|_| {});
    world.act(Action::InitialSyncStarted);
    for (number, hops) in [(1, None), (2, Some(2)), (3, Some(1)), (4, Some(1))] {
        world.candidate(number, hops);
    }
    world.act(Action::SchedulerStarted);
    assert_eq!(world.dialing(), [peer(3), peer(4)]);
    assert_eq!(world.state.why(&peer(2)), Why::Syncing);
    world.act(Action::InitialSyncFinished);
    assert_eq!(world.dialing().len(), 4);
}

#[test]
fn of_those_who_dial_us_the_least_useful_makes_room() {
    let mut world = World::with(|settings| settings.most_inbound = 3);
    world.candidate(1, Some(1));
    world.act(Action::SchedulerStopped);
    world.comes_in(peer(1));
    let stranger = world.comes_in(peer(2));
    world.comes_in(peer(3));
    let other = world.comes_in(peer(4));
    assert_eq!(world.hung_up(), [(other, WhyHungUp::TooMany)], "a stranger is worth no more than a stranger");
    world.links += 1;
    let (link, address) = (LinkId(world.links), String::new());
    world.act(Action::RemotePeerClientDidConnect { peer: peer(5), link, address, hops: Some(2) });
    assert_eq!(world.hung_up(), [(stranger, WhyHungUp::LessUseful)]);
    assert_eq!(world.connected(), [peer(1), peer(3), peer(5)]);
    world.ends(peer(2), stranger);
    assert!(world.effects.is_empty());
}

#[test]
fn strangers_are_dialed_where_the_user_or_a_pub_message_says_and_not_where_only_a_hub_does() {
    for (source, dialed) in [
        (Source::Manual, true),
        (Source::Stored, true),
        (Source::Pub, true),
        (Source::Invite, true),
        (Source::Dht, false),
        (Source::Staged, false),
        (Source::Hub, false),
        (Source::Local, false),
    ] {
        let mut world = World::new();
        world.route(SMALL, ROUTE, source);
        assert_eq!(!world.dialed().is_empty(), dialed, "{source:?}");
        world.act(Action::PeerPrioritised { peer: SMALL, hops: Some(1) });
        assert_eq!(world.dialing(), [SMALL], "{source:?}");
    }
}

#[test]
fn a_peer_with_autoconnect_off_is_dialed_only_when_asked_for() {
    let mut world = World::new();
    world.act(Action::SchedulerStopped).route(SMALL, ROUTE, Source::Manual);
    world.act(Action::AutoconnectSet { peer: SMALL, on: false }).act(Action::SchedulerStarted);
    assert_eq!((world.dialing(), world.state.why(&SMALL)), (vec![], Why::NoAutoconnect));
    world.connect(SMALL);
    assert_eq!(world.dialing(), [SMALL]);
}

#[test]
fn every_reason_reads_as_a_sentence() {
    let mut world = full();
    assert_eq!(
        world.state.why(&peer(1)).to_string(),
        "connected for 4 s, dialed by us; may make room for others in 120 min"
    );
    assert_eq!(world.state.why(&peer(5)).to_string(), "waits for its turn: the 4 slots for internet peers are taken");
    world.act(Action::DownloadStarted { peer: peer(1) });
    assert_eq!(world.state.why(&peer(1)).to_string(), "connected for 4 s, dialed by us; transferring");
}

#[test]
fn a_dial_that_is_not_answered_soon_lets_others_be_tried_and_no_link_too_many_stays() {
    let mut world = World::new();
    for number in 1..=9 {
        world.candidate(number, Some(1));
    }
    let settings = world.state.settings().clone();
    assert_eq!(world.dialing().len(), settings.internet.most);
    world.wait(settings.internet.patience);
    assert_eq!((world.dialing().len(), world.state.slots_taken(Kind::Internet)), (settings.most_dials, 4));
    for number in 1..=5 {
        world.now += 10;
        world.succeed(peer(number));
    }
    assert_eq!(world.hung_up(), [(LinkId(5), WhyHungUp::NoSlot)], "it came last");
    world.ends(peer(5), LinkId(5));
    assert_eq!(world.connected().len(), settings.internet.most);
}

#[test]
fn a_candidate_that_failed_rests_as_long_as_there_is_a_link_and_no_longer() {
    let mut world = World::new();
    let (good, bad) = (world.candidate(1, Some(1)), world.candidate(2, Some(1)));
    let link = world.succeed(good);
    world.fail(bad);
    let rest = world.state.settings().rest;
    world.wait(rest - 1_000);
    assert_eq!(world.dialing(), [], "there is a link");
    assert!(matches!(world.state.why(&bad), Why::Pausing { failures: 1, .. }));
    world.act(Action::PeerForgotten { peer: good }).ends(good, link);
    assert_eq!(world.dialing(), [bad], "there is none any more");
    world.fail(bad);
    let pause = world.wait_for(bad);
    assert!(pause < rest && world.dialing() == [bad], "alone, it is tried after its pause");
}

#[test]
fn a_machine_whose_timers_stood_still_is_woken_for_what_comes_next() {
    let mut world = World::new();
    let key = world.candidate(1, Some(1));
    world.fail(key);
    world.now += 100 * HOUR;
    world.act(Action::SystemDidWake);
    assert!(world.effects.iter().any(|effect| matches!(effect, Effect::WakeMeAt(when) if *when <= world.now + 4_000)));
}
