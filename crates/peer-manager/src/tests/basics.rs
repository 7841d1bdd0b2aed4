//! What each action about peers does.

use super::*;

#[test]
fn a_route_that_is_only_shown_makes_a_peer_known_and_nothing_more() {
    let mut world = World::new();
    world.route(SMALL, ROUTE, Source::Staged);
    assert_eq!(world.changes(), [Change::Added]);
    assert!(!world.effects.contains(&Effect::Persist) && world.dialed().is_empty());
    assert_eq!(world.state.why(&SMALL), Why::NotAskedFor);
    world.act(Action::SchedulerStopped).route(SMALL, ROUTE, Source::Pub);
    assert!(world.effects.contains(&Effect::Persist));
    let peer = world.state.peer(&SMALL).unwrap();
    assert_eq!((peer.routes.len(), peer.routes[0].announced, peer.routes[0].source), (1, 2, Source::Pub));
    assert_eq!(peer.routes[0].also, [Source::Staged]);
}

#[test]
fn seeds_are_dialed_by_themselves() {
    let mut world = World::new();
    world.route(SMALL, ROUTE, Source::Seed);
    assert_eq!(world.dialed().len(), 1);
}

#[test]
fn our_own_key_and_overlong_routes_are_not_taken() {
    let mut world = World::new();
    assert_eq!(world.route(OWN, ROUTE, Source::Seed).refused(), Some(Refusal::OwnKey));
    assert_eq!(world.connect(OWN).refused(), Some(Refusal::OwnKey));
    let long = "x".repeat(MAX_ROUTE + 1);
    assert_eq!(world.route(SMALL, &long, Source::Seed).refused(), Some(Refusal::RouteTooLong));
    assert_eq!(world.state.peers().len(), 0);
}

#[test]
fn a_peer_without_routes_is_forgotten() {
    let mut world = World::knowing(&[SMALL]);
    world.act(Action::RouteRemoved { peer: SMALL, route: ROUTE.into(), source: None });
    assert_eq!(world.changes(), [Change::Removed]);
    assert_eq!(world.state.why(&SMALL), Why::Unknown);
}

#[test]
fn more_routes_than_allowed_push_out_the_ones_that_fail() {
    let mut world = World::new();
    for number in 0..20 {
        world.route(SMALL, &format!("net:192.0.2.{number}:8008~shs:x"), Source::Pub);
    }
    assert_eq!(world.state.peer(&SMALL).unwrap().routes.len(), world.state.settings().most_routes);
    world.route(SMALL, ROUTE, Source::Manual);
    assert!(world.state.peer(&SMALL).unwrap().routes.iter().any(|route| route.address == ROUTE));
}

#[test]
fn a_connection_by_hand_is_dialed_at_once_even_while_the_scheduler_is_stopped() {
    let mut world = World::knowing(&[SMALL]);
    world.act(Action::SchedulerStopped).connect(SMALL);
    assert_eq!(world.dialed()[0].2, ROUTE);
    assert_eq!(world.changes(), [Change::Connecting]);
    world.succeed(SMALL);
    assert_eq!(world.changes(), [Change::Connected]);
    assert_eq!(world.state.links(), (1, 0));
    assert!(world.connect(SMALL).dialed().is_empty());
}

#[test]
fn what_cannot_be_connected_is_refused_with_a_reason() {
    let mut world = World::new();
    assert_eq!(world.connect(SMALL).refused(), Some(Refusal::UnknownPeer));
    world.act(Action::PeerBanned { peer: SMALL, on: true });
    assert_eq!(world.connect(SMALL).refused(), Some(Refusal::Banned));
    world.comes_in(GREAT);
    world.connect(GREAT);
    assert_eq!(world.refused(), None, "it is connected already");
}

#[test]
fn a_peer_that_keeps_failing_is_tried_ever_more_rarely() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    let mut waits = Vec::new();
    for _ in 0..20 {
        world.fail(SMALL);
        assert_eq!(world.changes(), [Change::ConnectFailed]);
        waits.push(world.wait_for(SMALL));
    }
    let longest = world.state.settings().longest_pause;
    assert!(waits[..9].windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    assert!(waits.iter().all(|wait| (4_000..=longest).contains(wait)), "{waits:?}");
    assert!(waits[19] > longest / 2);
    world.fail(SMALL);
    assert!(world.state.why(&SMALL).to_string().contains("connection refused"));
}

#[test]
fn routes_are_tried_one_after_another_before_a_pause() {
    let mut world = World::knowing(&[SMALL]);
    world.route(SMALL, "net:192.0.2.2:8008~shs:x", Source::Staged);
    world.connect(SMALL);
    assert_eq!(world.dialed()[0].2, ROUTE);
    world.fail(SMALL);
    assert_eq!(world.dialed()[0].2, "net:192.0.2.2:8008~shs:x");
    let link = world.succeed(SMALL);
    world.now += 60_000;
    world.ends(SMALL, link).wait_for(SMALL);
    assert_eq!(world.dialed()[0].2, "net:192.0.2.2:8008~shs:x", "the one that worked last comes first");
}

#[test]
fn a_lost_link_is_made_anew_after_a_pause_that_grows_if_links_do_not_last() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let link = world.succeed(SMALL);
        world.ends(SMALL, link);
        waits.push(world.wait_for(SMALL));
    }
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    let link = world.succeed(SMALL);
    world.now += world.state.settings().stable_after;
    world.ends(SMALL, link);
    assert!(world.wait_for(SMALL) < 2 * world.state.settings().first_pause, "a good link makes good");
}

#[test]
fn who_dialed_us_is_known_while_connected() {
    let mut world = World::new();
    let link = world.comes_in(SMALL);
    assert_eq!(world.changes(), [Change::Added, Change::Connected]);
    assert_eq!(world.state.links(), (0, 1));
    world.ends(SMALL, link);
    assert_eq!(world.changes(), [Change::Disconnected, Change::Removed]);
    assert_eq!((world.state.links(), world.state.peers().len()), ((0, 0), 0));
}

#[test]
fn of_two_links_made_at_once_the_one_that_the_smaller_key_dialed_stays() {
    // We have dialed both, and both come in before our dials are done.
    let mut world = World::knowing(&[SMALL, GREAT]);
    world.connect(SMALL).connect(GREAT);
    let theirs = world.comes_in(SMALL);
    assert!(matches!(world.effects[0], Effect::CancelDial { .. }));
    assert_eq!(world.state.peer(&SMALL).unwrap().link.as_ref().unwrap().id, theirs);
    let theirs = world.comes_in(GREAT);
    assert!(world.hung_up().is_empty());
    let ours = world.succeed(GREAT);
    assert_eq!(world.hung_up(), [(theirs, WhyHungUp::Duplicate)]);
    assert_eq!(world.state.peer(&GREAT).unwrap().link.as_ref().unwrap().id, ours);
    // Our dials are done before both come in.
    let mut world = World::knowing(&[SMALL, GREAT]);
    world.connect(SMALL).connect(GREAT);
    let (small, _great) = (world.succeed(SMALL), world.succeed(GREAT));
    world.comes_in(SMALL);
    assert_eq!(world.hung_up(), [(small, WhyHungUp::Duplicate)]);
    let theirs = world.comes_in(GREAT);
    assert_eq!(world.hung_up(), [(theirs, WhyHungUp::Duplicate)]);
    assert_eq!(world.state.links(), (1, 1));
}

#[test]
fn a_peer_that_dials_us_long_after_the_link_was_made_has_lost_it() {
    let mut world = World::knowing(&[GREAT]);
    world.connect(GREAT);
    let old = world.succeed(GREAT);
    world.now += world.state.settings().race_window + 1;
    let new = world.comes_in(GREAT);
    assert_eq!(world.hung_up(), [(old, WhyHungUp::Duplicate)]);
    // The end of the old one, reported later, changes nothing.
    world.ends(GREAT, old);
    assert!(world.effects.is_empty());
    let newer = world.comes_in(GREAT);
    assert_eq!(world.hung_up(), [(new, WhyHungUp::Duplicate)]);
    assert_eq!(world.state.peer(&GREAT).unwrap().link.as_ref().unwrap().id, newer);
}

#[test]
fn disconnected_by_hand_stays_so_until_asked_for_again() {
    let mut world = World::knowing(&[SMALL]);
    world.act(Action::LongTermSet { peer: SMALL, on: true });
    let link = world.succeed(SMALL);
    world.act(Action::RemotePeerDisconnect { peer: SMALL });
    assert_eq!(world.hung_up(), [(link, WhyHungUp::ByHand)]);
    assert_eq!(world.status(SMALL), Status::Disconnecting);
    world.ends(SMALL, link);
    assert_eq!(world.status(SMALL), Status::Disconnected);
    assert_eq!(world.state.why(&SMALL), Why::DisconnectedByHand);
    assert_eq!(world.state.peer(&SMALL).unwrap().next_try(), None);
    assert_eq!(world.connect(SMALL).dialed().len(), 1);
    world.act(Action::RemotePeerDisconnect { peer: SMALL });
    assert!(matches!(world.effects[..], [Effect::Persist, Effect::CancelDial { .. }, ..]));
    assert_eq!(world.status(SMALL), Status::Disconnected);
}

#[test]
fn a_dial_that_succeeds_after_it_was_broken_off_is_hung_up() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    let attempt = world.attempt(SMALL);
    world.act(Action::RemotePeerDisconnect { peer: SMALL });
    world.act(Action::RemotePeerConnectionSucceeded { peer: SMALL, attempt, link: LinkId(9) });
    assert_eq!(world.hung_up(), [(LinkId(9), WhyHungUp::NoLongerWanted)]);
    assert_eq!(world.status(SMALL), Status::Disconnected);
}

#[test]
fn asking_again_while_a_link_is_being_closed_dials_once_it_is() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    let link = world.succeed(SMALL);
    world.act(Action::RemotePeerDisconnect { peer: SMALL }).connect(SMALL);
    assert!(world.dialed().is_empty());
    world.ends(SMALL, link);
    assert_eq!(world.dialed().len(), 1);
}

#[test]
fn a_banned_peer_is_hung_up_on_never_dialed_and_not_let_in() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    let link = world.succeed(SMALL);
    world.act(Action::PeerBanned { peer: SMALL, on: true });
    assert_eq!(world.hung_up(), [(link, WhyHungUp::Banned)]);
    world.ends(SMALL, link);
    assert_eq!(world.state.peer(&SMALL).unwrap().next_try(), None);
    let link = world.comes_in(SMALL);
    assert_eq!(world.hung_up(), [(link, WhyHungUp::Banned)]);
    assert_eq!(world.state.why(&SMALL), Why::Banned);
    world.act(Action::PeerBanned { peer: SMALL, on: false });
    assert_eq!(world.dialed().len(), 1, "it was wanted before");
}

#[test]
fn a_forgotten_peer_stays_connected_and_then_goes() {
    let mut world = World::knowing(&[SMALL, GREAT]);
    world.connect(SMALL);
    let link = world.succeed(SMALL);
    world.act(Action::PeerForgotten { peer: SMALL });
    assert!(world.hung_up().is_empty());
    world.ends(SMALL, link);
    assert_eq!(world.changes(), [Change::Disconnected, Change::Removed]);
    world.act(Action::PeerForgotten { peer: GREAT });
    assert_eq!(world.changes(), [Change::Removed]);
}

#[test]
fn the_scheduler_dials_remembered_peers_only_while_it_runs() {
    let mut world = World::knowing(&[SMALL]);
    world.act(Action::SchedulerStopped);
    world.act(Action::LongTermSet { peer: SMALL, on: true });
    assert!(world.dialed().is_empty());
    assert_eq!(world.state.why(&SMALL), Why::SchedulerStopped);
    world.act(Action::SchedulerStarted);
    assert_eq!(world.dialed().len(), 1);
}

#[test]
fn numbers_are_bounded() {
    let mut world = World::new();
    let settings = Settings { most_peers: 5, most_dials: 2, most_inbound: 1, ..Settings::default() };
    world.act(Action::SettingsChanged(Box::new(settings)));
    for number in 0..9 {
        world.route(FeedId([number; 32]), ROUTE, Source::Pub);
    }
    assert_eq!(world.state.peers().len(), 5);
    let keys: Vec<_> = world.state.peers().map(|(key, _)| *key).collect();
    for key in &keys {
        world.connect(*key);
    }
    assert_eq!(world.state.dials(), 2);
    assert_eq!(world.state.why(&keys[4]), Why::Queued);
    assert_eq!(world.route(GREAT, ROUTE, Source::Manual).refused(), Some(Refusal::TableFull));
    world.comes_in(keys[0]);
    let link = world.comes_in(keys[1]);
    assert_eq!(world.hung_up(), [(link, WhyHungUp::TooMany)]);
    // A dial that is done makes room for the next.
    let before = world.state.dials();
    world.fail(keys[1]);
    assert_eq!((before, world.state.dials(), world.dialed().len()), (2, 2, 1));
}

#[test]
fn time_never_runs_backwards() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    world.now = 0;
    world.fail(SMALL);
    assert!(world.state.peer(&SMALL).unwrap().next_try().unwrap() > 1_000_000);
}

#[test]
fn what_deserves_it_is_kept_over_a_restart() {
    let mut world = World::new();
    world.act(Action::SchedulerStopped).route(SMALL, ROUTE, Source::Manual).route(GREAT, ROUTE, Source::Manual);
    world.connect(SMALL);
    world.succeed(SMALL);
    world.act(Action::AutoconnectSet { peer: GREAT, on: false });
    world.act(Action::HubAddressAdded { hub: "https://hub.example".into() });
    world.route(FeedId([2; 32]), ROUTE, Source::Local);
    world.comes_in(FeedId([3; 32]));
    world.act(Action::PeerBanned { peer: FeedId([4; 32]), on: true });
    let text = serde_json::to_string(&world.state.saved()).unwrap();
    let saved = serde_json::from_str(&text).unwrap();
    let mut state = State::restore(OWN, Settings::default(), 1, 5, saved);
    let keys: Vec<_> = state.peers().map(|(key, _)| *key).collect();
    assert_eq!(keys, [SMALL, FeedId([4; 32]), GREAT]);
    let dials: Vec<_> = state.apply(Action::SchedulerStarted, 5);
    assert!(dials.iter().any(|effect| matches!(effect, Effect::Dial { peer, .. } if *peer == SMALL)));
    assert_eq!(state.dials(), 1, "the other one is not to be dialed unasked");
    assert_eq!(state.hubs().map(|(address, _)| address).collect::<Vec<_>>(), ["https://hub.example"]);
    assert!(state.peers().all(|(_, peer)| peer.last_success <= Some(5)), "no success is later than now");
}

#[test]
fn who_is_on_the_local_network_is_dialed_if_we_follow_it() {
    let mut world = World::new();
    world.route(GREAT, ROUTE, Source::Local);
    assert_eq!((world.dialed(), world.state.why(&GREAT)), (vec![], Why::Stranger));
    world.act(Action::PeerPrioritised { peer: GREAT, hops: Some(2) });
    assert_eq!(world.dialed(), []);
    world.act(Action::PeerPrioritised { peer: GREAT, hops: Some(1) });
    assert_eq!(world.dialed().len(), 1);
    world.act(Action::PeerPrioritised { peer: SMALL, hops: Some(1) });
    assert!(world.state.peer(&SMALL).is_none(), "what isn't known isn't kept");
}

#[test]
fn who_left_the_local_network_is_not_dialed_any_more() {
    let mut world = World::new();
    world.route(GREAT, ROUTE, Source::Local).act(Action::PeerPrioritised { peer: GREAT, hops: Some(1) });
    let attempt = world.attempt(GREAT);
    world.act(Action::RemotePeerConnectionFailed { peer: GREAT, attempt, error: "no".into() });
    assert!(matches!(world.state.why(&GREAT), Why::Pausing { .. }));
    world.act(Action::RouteRemoved { peer: GREAT, route: ROUTE.into(), source: None });
    assert!(world.state.peer(&GREAT).is_none());
}

#[test]
fn a_route_that_is_known_from_elsewhere_too_stays_when_one_source_takes_it_back() {
    let mut world = World::new();
    world.act(Action::SchedulerStopped).route(GREAT, ROUTE, Source::Local).route(GREAT, ROUTE, Source::Pub);
    world.act(Action::RouteRemoved { peer: GREAT, route: ROUTE.into(), source: Some(Source::Local) });
    assert_eq!(world.state.peer(&GREAT).unwrap().routes[0].source, Source::Pub);
    world.act(Action::RouteRemoved { peer: GREAT, route: ROUTE.into(), source: Some(Source::Local) });
    assert!(world.effects.is_empty(), "it was not known from there any more");
    world.act(Action::RouteRemoved { peer: GREAT, route: ROUTE.into(), source: Some(Source::Pub) });
    assert!(world.state.peer(&GREAT).is_none());
}

#[test]
fn routes_of_equal_rank_race_and_the_first_link_ends_the_others() {
    let mut world = World::new();
    for number in 1..=4 {
        world.route(SMALL, &public(number), Source::Staged);
    }
    world.connect(SMALL);
    assert_eq!(world.dialed().len(), 1);
    let raced = world.wait(1_000);
    let dials = raced.iter().filter(|effect| matches!(effect, Effect::Dial { .. })).count();
    assert_eq!((dials, world.state.dials()), (2, world.state.settings().most_dials_of_one));
    assert!(matches!(world.state.why(&SMALL), Why::Dialing { routes } if routes.len() == 3));
    world.fail(SMALL);
    assert_eq!(world.dialed().len(), 1, "the next one follows at once");
    let attempt = world.state.peer(&SMALL).unwrap().dialing[1].id;
    world.act(Action::RemotePeerConnectionSucceeded { peer: SMALL, attempt, link: LinkId(77) });
    let cancelled = world.effects.iter().filter(|effect| matches!(effect, Effect::CancelDial { .. })).count();
    assert_eq!((cancelled, world.state.dials(), world.status(SMALL)), (2, 0, Status::Connected));
    assert_eq!(world.state.slots_taken(Kind::Internet), 1);
}

#[test]
fn near_routes_are_tried_before_far_ones_and_those_that_worked_before_those_that_did_not() {
    let mut world = World::new();
    world.route(SMALL, &public(1), Source::Staged).route(SMALL, "net:192.168.1.5:8008~shs:x", Source::Staged);
    world.route(SMALL, &public(2), Source::Staged).connect(SMALL);
    assert_eq!(world.dialed()[0].2, "net:192.168.1.5:8008~shs:x");
    assert!(world.wait(5_000).is_empty(), "the far ones wait for its failure");
    world.fail(SMALL);
    assert_eq!(world.dialed()[0].2, public(1));
    world.fail(SMALL);
    assert_eq!(world.dialed()[0].2, public(2));
    let link = world.succeed(SMALL);
    world.now += 60_000;
    world.ends(SMALL, link).wait_for(SMALL);
    assert_eq!(world.dialed()[0].2, "net:192.168.1.5:8008~shs:x");
    world.fail(SMALL);
    assert_eq!(world.dialed()[0].2, public(2));
}

#[test]
fn a_peer_that_is_about_to_dial_us_is_not_dialed_meanwhile() {
    let mut world = World::knowing(&[SMALL]);
    world.act(Action::RemotePeerConnecting { peer: SMALL }).act(Action::LongTermSet { peer: SMALL, on: true });
    assert!(world.dialed().is_empty() && matches!(world.state.why(&SMALL), Why::Expected { .. }));
    assert_eq!(world.wait_for(SMALL), world.state.settings().dial_timeout);
    assert_eq!(world.dialed().len(), 1, "it didn't");
}

#[test]
fn a_recording_plays_to_the_same_state_and_tells_where_it_differs() {
    let mut world = World::knowing(&[SMALL]);
    let start = Line::Start { recording: RECORDING_VERSION, state: Box::new(world.state.clone()) };
    let mut lines = vec![serde_json::to_string(&start).unwrap()];
    for action in [
        Action::ConnectRequested { peer: SMALL },
        Action::RemotePeerConnectionFailed { peer: SMALL, attempt: AttemptId(0), error: "no".into() },
        Action::RouteAdded { peer: GREAT, route: public(1), source: Source::Pub },
    ] {
        world.act(action.clone());
        let step = Line::Step { now: world.now, action, effects: world.effects.clone() };
        lines.push(serde_json::to_string(&step).unwrap());
    }
    let mut replay = Replay::default();
    lines.iter().for_each(|line| replay.line(line).unwrap());
    assert_eq!((replay.state(), replay.actions()), (Some(&world.state), 3));
    let mut replay = Replay::default();
    assert!(matches!(replay.line(&lines[1]), Err(ReplayError::NoStart { line: 1 })));
    replay.line(&lines[0]).unwrap();
    assert!(matches!(replay.line(&lines[2]), Err(ReplayError::Differs { line: 3, .. })));
    assert!(matches!(replay.line("{\"now\":1}"), Err(ReplayError::Line { line: 4, .. })));
    let other = lines[0].replacen("\"recording\":1", "\"recording\":9", 1);
    assert!(matches!(replay.line(&other), Err(ReplayError::Version(9))));
}
