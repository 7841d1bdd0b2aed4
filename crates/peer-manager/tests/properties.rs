//! What holds whatever happens.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use sbot_feed::FeedId;
use sbot_peer_manager::{Action, Durations, Effect, LinkId, Settings, Source, State};

mod runtime;

use runtime::{Event, OWN, Runtime, SOURCES, address, hub, peer, settings};

/// Something that happens, or the loss of a hub: its number, and whether the connection was not yet up.
#[derive(Debug, Clone)]
enum Step {
    Event(Event),
    HubLost(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0u16..16).prop_map(peer);
    let source = || prop::sample::select(SOURCES.to_vec());
    let act = |action: BoxedStrategy<Action>| action.prop_map(|action| Step::Event(Event::Action(action))).boxed();
    let event = |event: BoxedStrategy<Event>| event.prop_map(Step::Event).boxed();
    let hops = || prop::option::of(1u32..4);
    prop_oneof![
        6 => act((key(), 0u16..12, source()).prop_map(|(peer, route, source)| {
            Action::RouteAdded { peer, route: address(route), source }
        }).boxed()),
        1 => act((key(), 0u16..12, prop::option::of(source())).prop_map(|(peer, route, source)| {
            Action::RouteRemoved { peer, route: address(route), source }
        }).boxed()),
        1 => act(key().prop_map(|peer| Action::PeerForgotten { peer }).boxed()),
        1 => act((key(), any::<bool>()).prop_map(|(peer, on)| Action::LongTermSet { peer, on }).boxed()),
        1 => act((key(), any::<bool>()).prop_map(|(peer, on)| Action::AutoconnectSet { peer, on }).boxed()),
        1 => act((key(), any::<bool>()).prop_map(|(peer, on)| Action::PeerBanned { peer, on }).boxed()),
        3 => act((key(), hops()).prop_map(|(peer, hops)| Action::PeerPrioritised { peer, hops }).boxed()),
        2 => act(key().prop_map(|peer| Action::ConnectRequested { peer }).boxed()),
        1 => act(key().prop_map(|peer| Action::RemotePeerDisconnect { peer }).boxed()),
        1 => act(key().prop_map(|peer| Action::RemotePeerConnecting { peer }).boxed()),
        3 => act((key(), 0..3).prop_map(|(peer, what)| match what {
            0 => Action::DownloadStarted { peer },
            1 => Action::DownloadProgressed { peer },
            _ => Action::DownloadFinished { peer },
        }).boxed()),
        1 => act(prop::sample::select(vec![
            Action::SchedulerStarted, Action::SchedulerStopped, Action::NetworkDidReconnect, Action::NetworkDidDisconnect,
            Action::SystemDidWake, Action::InitialSyncStarted, Action::InitialSyncFinished,
            Action::SettingsChanged(Box::new(settings())), Action::NetworkDidReconnect, Action::SchedulerStarted,
        ]).boxed()),
        1 => act((0u8..4, any::<bool>()).prop_map(|(number, on)| match on {
            true => Action::HubAddressAdded { hub: hub(number) },
            false => Action::HubAddressRemoved { hub: hub(number) },
        }).boxed()),
        2 => act((0u8..4, key(), 0u16..12, any::<bool>()).prop_map(|(number, peer, route, on)| match on {
            true => Action::RemotePeerDidAnnounce { hub: hub(number), peer, route: address(route) },
            false => Action::RemotePeerDidLeave { hub: hub(number), peer },
        }).boxed()),
        6 => event(any::<usize>().prop_map(Event::Succeed).boxed()),
        5 => event(any::<usize>().prop_map(Event::Fail).boxed()),
        4 => event((0u16..16, hops()).prop_map(|(number, hops)| Event::ComesIn(number, hops)).boxed()),
        3 => event(any::<usize>().prop_map(Event::Ends).boxed()),
        1 => event((0u8..4).prop_map(Event::HubUp).boxed()),
        3 => event((0u64..900_000).prop_map(Event::Wait).boxed()),
        4 => event(Just(Event::Sleep).boxed()),
        1 => (0u8..4, any::<bool>()).prop_map(|(number, failed)| Step::HubLost(number, failed)),
    ]
}

fn take(runtime: &mut Runtime, step: Step) {
    match step {
        Step::Event(event) => runtime.happen(event),
        Step::HubLost(number, failed) => Event::hub_lost(runtime, number, failed),
    }
}

#[test]
fn sums_of_durations_are_read_as_they_were_written() {
    // serde_json reads the second one as a float of one less; the last one is the largest below 2^64.
    for sum in [0.5, 7_893_483_955_968_962.0, 1e19, 18_446_744_073_709_549_568.0] {
        let durations = Durations { count: 1, sum, sum_of_squares: sum };
        let text = serde_json::to_string(&durations).unwrap();
        assert_eq!(serde_json::from_str::<Durations>(&text).unwrap(), durations, "{text}");
    }
    let old = r#"{"count":1,"sum":5.0,"sum_of_squares":25.0}"#;
    assert_eq!(serde_json::from_str::<Durations>(old).unwrap().sum_of_squares.to_string(), "25");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn never_two_connections_to_one_peer_and_all_bounds_hold(steps in prop::collection::vec(step(), 0..200)) {
        let mut runtime = Runtime::new(settings(), false, 1);
        for step in steps {
            take(&mut runtime, step);
        }
    }

    #[test]
    fn a_replay_leads_to_the_same_effects_and_state(steps in prop::collection::vec(step(), 0..120), cut: prop::sample::Index) {
        let mut runtime = Runtime::new(settings(), true, 1);
        for step in steps {
            take(&mut runtime, step);
        }
        let cut = cut.index(runtime.log.len());
        let mut state = State::new(OWN, settings(), 3);
        for (number, (action, now, effects)) in runtime.log.iter().enumerate() {
            if number == cut {
                // As if saved to a file and read again.
                state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            }
            let action: Action = serde_json::from_str(&serde_json::to_string(action).unwrap()).unwrap();
            prop_assert_eq!(&state.apply(action, *now), effects);
        }
        prop_assert_eq!(state, runtime.state);
    }

    #[test]
    fn both_ends_keep_the_same_link_when_both_dial_at_once(
        a in 0u16..20, other in 1u16..20, order in prop::sample::select(vec![
            [0, 1, 2, 3], [0, 1, 3, 2], [1, 0, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [2, 3, 1, 0], [3, 2, 0, 1], [0, 2, 1, 3],
            [0, 2, 3, 1], [2, 0, 1, 3], [2, 0, 3, 1], [1, 3, 0, 2], [3, 1, 2, 0], [0, 3, 1, 2], [3, 0, 2, 1], [1, 2, 3, 0],
        ]),
    ) {
        let keys: [FeedId; 2] = [peer(a), peer((a + other) % 20)];
        let mut ends = [0, 1].map(|end| {
            let mut state = State::new(keys[end], Settings::default(), 5);
            let other = keys[1 - end];
            state.apply(Action::RouteAdded { peer: other, route: "net:x".into(), source: Source::Manual }, 1_000);
            state.apply(Action::ConnectRequested { peer: other }, 1_000);
            state
        });
        // Link 0 is dialed by end 0, link 1 by end 1. Each of them comes up at either end at some time.
        let mut closed = BTreeSet::new();
        for (step, what) in order.into_iter().enumerate() {
            let (end, link) = (what / 2, what % 2);
            let (now, other) = (1_000 + step as u64, keys[1 - end]);
            let report = if end == link {
                // A dial that was broken off reports nothing.
                match ends[end].peer(&other).unwrap().dialing.first().map(|dialing| dialing.id) {
                    Some(attempt) => Action::RemotePeerConnectionSucceeded { peer: other, attempt, link: LinkId(link as u64) },
                    None => { closed.insert(link); continue }
                }
            } else {
                Action::RemotePeerClientDidConnect { peer: other, link: LinkId(link as u64), address: String::new(), hops: None }
            };
            for effect in ends[end].apply(report, now) {
                if let Effect::HangUp { link, .. } = effect {
                    closed.insert(link.0 as usize);
                }
            }
        }
        prop_assert_eq!(closed.len(), 1, "one link is closed, by either end");
        for link in &closed {
            for (end, state) in ends.iter_mut().enumerate() {
                let gone = Action::RemotePeerDidDisconnect { peer: keys[1 - end], link: LinkId(*link as u64), error: None };
                state.apply(gone, 2_000);
            }
        }
        let left = [0, 1].map(|end| ends[end].peer(&keys[1 - end]).unwrap().link.as_ref().map(|link| link.id));
        prop_assert!(left[0].is_some());
        prop_assert_eq!(left[0], left[1]);
    }
}
