//! What holds whatever happens. A small runtime carries out the effects, as the node does.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sbot_feed::FeedId;
use sbot_peer_manager::{Action, AttemptId, Effect, LinkId, Millis, Settings, Source, State, WhyHungUp};

const OWN: FeedId = FeedId([4; 32]);

fn peer(number: u8) -> FeedId {
    FeedId([number; 32])
}

fn settings() -> Settings {
    Settings { most_peers: 6, most_routes: 2, most_dials: 3, most_outbound: 4, most_inbound: 3, ..Settings::default() }
}

/// What may happen; numbers pick among what is possible at that moment.
#[derive(Debug, Clone)]
enum Event {
    Action(Action),
    Succeed(usize),
    Fail(usize),
    ComesIn(u8),
    Ends(usize),
    Wait(Millis),
}

fn event() -> impl Strategy<Value = Event> {
    let key = || (0u8..8).prop_map(peer);
    let source = prop::sample::select(vec![Source::Manual, Source::Seed, Source::Pub, Source::Local]);
    let act = |action: BoxedStrategy<Action>| action.prop_map(Event::Action).boxed();
    prop_oneof![
        3 => act((key(), 0..3, source).prop_map(|(peer, route, source)| {
            Action::RouteAdded { peer, route: format!("net:192.0.2.{route}:8008~shs:x"), source }
        }).boxed()),
        1 => act((key(), 0..3).prop_map(|(peer, route)| {
            Action::RouteRemoved { peer, route: format!("net:192.0.2.{route}:8008~shs:x") }
        }).boxed()),
        1 => act(key().prop_map(|peer| Action::PeerForgotten { peer }).boxed()),
        2 => act((key(), any::<bool>()).prop_map(|(peer, on)| Action::LongTermSet { peer, on }).boxed()),
        1 => act((key(), any::<bool>()).prop_map(|(peer, on)| Action::PeerBanned { peer, on }).boxed()),
        2 => act((key(), prop::option::of(1u32..3)).prop_map(|(peer, hops)| Action::PeerPrioritised { peer, hops }).boxed()),
        4 => act(key().prop_map(|peer| Action::ConnectRequested { peer }).boxed()),
        1 => act(key().prop_map(|peer| Action::DisconnectRequested { peer }).boxed()),
        1 => act(prop::sample::select(vec![
            Action::SchedulerStarted, Action::SchedulerStopped, Action::NetworkDidReconnect,
        ]).boxed()),
        5 => any::<usize>().prop_map(Event::Succeed),
        3 => any::<usize>().prop_map(Event::Fail),
        4 => (0u8..8).prop_map(Event::ComesIn),
        3 => any::<usize>().prop_map(Event::Ends),
        3 => (0u64..60_000).prop_map(Event::Wait),
    ]
}

/// The runtime: dials under way and links, as the outside world has them.
struct Runtime {
    state: State,
    now: Millis,
    dials: BTreeMap<AttemptId, FeedId>,
    links: BTreeMap<LinkId, FeedId>,
    next: u64,
    banned: BTreeSet<FeedId>,
    log: Vec<(Action, Millis, Vec<Effect>)>,
}

impl Runtime {
    fn new() -> Self {
        let mut runtime = Runtime {
            state: State::new(OWN, settings(), 3),
            now: 1_000,
            dials: BTreeMap::new(),
            links: BTreeMap::new(),
            next: 0,
            banned: BTreeSet::new(),
            log: Vec::new(),
        };
        runtime.act(Action::SchedulerStarted);
        runtime
    }

    fn act(&mut self, action: Action) {
        let effects = self.state.apply(action.clone(), self.now);
        let refused = effects.iter().any(|effect| matches!(effect, Effect::Refused { .. }));
        if let (Action::PeerBanned { peer, on }, false) = (&action, refused) {
            if *on {
                self.banned.insert(*peer)
            } else {
                self.banned.remove(peer)
            };
        }
        for effect in &effects {
            match effect {
                Effect::Dial { peer, attempt, .. } => {
                    assert!(*peer != OWN && !self.banned.contains(peer), "dialed {peer}");
                    assert!(self.links.values().all(|linked| linked != peer), "dialed a connected peer");
                    assert!(self.dials.values().all(|dialed| dialed != peer), "dialed twice at once");
                    self.dials.insert(*attempt, *peer);
                }
                Effect::CancelDial { attempt, .. } => {
                    self.dials.remove(attempt).expect("a dial under way");
                }
                Effect::HangUp { link, why, .. } => {
                    let closed = self.links.remove(link).expect("a link that is up");
                    // The report comes at once, before anything else can happen.
                    if matches!(why, WhyHungUp::ByHand | WhyHungUp::Banned) {
                        self.log.push((action.clone(), self.now, effects.clone()));
                        return self.finish(closed, *link, &effects);
                    }
                }
                Effect::WakeMeAt(when) => assert!(*when > self.now),
                _ => {}
            }
        }
        self.log.push((action, self.now, effects));
        self.check();
    }

    /// Carries out what is left of the effects after a link was closed, then reports its end.
    fn finish(&mut self, peer: FeedId, link: LinkId, effects: &[Effect]) {
        let after = effects.iter().position(|effect| matches!(effect, Effect::HangUp { link: l, .. } if *l == link));
        for effect in effects.iter().skip(after.unwrap_or(0) + 1) {
            match effect {
                Effect::Dial { peer, attempt, .. } => {
                    assert!(*peer != OWN && !self.banned.contains(peer));
                    self.dials.insert(*attempt, *peer);
                }
                Effect::CancelDial { .. } | Effect::HangUp { .. } => panic!("out of order: {effects:?}"),
                _ => {}
            }
        }
        self.act(Action::RemotePeerDidDisconnect { peer, link, error: None });
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for linked in self.links.values() {
            assert!(seen.insert(*linked), "two links with {linked}");
        }
        let settings = self.state.settings();
        let (outbound, inbound) = self.state.links();
        assert_eq!(outbound + inbound, self.links.len());
        assert_eq!(self.state.dials(), self.dials.len());
        assert!(self.dials.len() <= settings.most_dials);
        assert!(inbound <= settings.most_inbound);
        assert!(self.state.peers().len() <= settings.most_peers);
        for (key, peer) in self.state.peers() {
            assert_ne!(*key, OWN);
            assert!(peer.routes.len() <= settings.most_routes);
            assert_eq!(peer.link.as_ref().map(|link| self.links.get(&link.id)), peer.link.as_ref().map(|_| Some(key)));
            // Whoever is to be connected is, or is being dialed, or will be.
            let kept = peer.is_kept_connected() && !peer.banned && !peer.routes.is_empty();
            if kept && peer.link.is_none() && peer.dialing.is_none() {
                assert!(peer.next_try.is_some(), "{key} waits for nothing: {:?}", self.state.why(key));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let pick = |number: usize, count: usize| number % count.max(1);
        match event {
            Event::Action(action) => self.act(action),
            Event::Succeed(number) => {
                let Some((attempt, peer)) = self.dials.iter().nth(pick(number, self.dials.len())) else { return };
                let (attempt, peer) = (*attempt, *peer);
                self.dials.remove(&attempt);
                self.next += 1;
                let link = LinkId(self.next);
                self.links.insert(link, peer);
                self.act(Action::RemotePeerConnectionSucceeded { peer, attempt, link });
            }
            Event::Fail(number) => {
                let Some((attempt, peer)) = self.dials.iter().nth(pick(number, self.dials.len())) else { return };
                let (attempt, peer) = (*attempt, *peer);
                self.dials.remove(&attempt);
                self.act(Action::RemotePeerConnectionFailed { peer, attempt, error: "refused".into() });
            }
            Event::ComesIn(number) if peer(number) != OWN => {
                self.next += 1;
                let link = LinkId(self.next);
                self.links.insert(link, peer(number));
                self.act(Action::RemotePeerClientDidConnect { peer: peer(number), link, address: "net:x".into() });
            }
            Event::ComesIn(_) => {}
            Event::Ends(number) => {
                let Some((link, peer)) = self.links.iter().nth(pick(number, self.links.len())) else { return };
                let (link, peer) = (*link, *peer);
                self.links.remove(&link);
                self.act(Action::RemotePeerDidDisconnect { peer, link, error: None });
            }
            Event::Wait(time) => {
                self.now += time;
                self.act(Action::PeerConnectionTimerTicked);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn never_two_connections_to_one_peer_and_all_bounds_hold(events in prop::collection::vec(event(), 0..120)) {
        let mut runtime = Runtime::new();
        for event in events {
            runtime.happen(event);
        }
    }

    #[test]
    fn a_replay_leads_to_the_same_effects_and_state(events in prop::collection::vec(event(), 0..80), cut: prop::sample::Index) {
        let mut runtime = Runtime::new();
        for event in events {
            runtime.happen(event);
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
        a in 0u8..20, other in 1u8..20, order in prop::sample::select(vec![
            [0, 1, 2, 3], [0, 1, 3, 2], [1, 0, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [2, 3, 1, 0], [3, 2, 0, 1], [0, 2, 1, 3],
            [0, 2, 3, 1], [2, 0, 1, 3], [2, 0, 3, 1], [1, 3, 0, 2], [3, 1, 2, 0], [0, 3, 1, 2], [3, 0, 2, 1], [1, 2, 3, 0],
        ]),
    ) {
        let keys = [peer(a), peer((a + other) % 20)];
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
                match ends[end].peer(&other).unwrap().dialing.as_ref().map(|dialing| dialing.id) {
                    Some(attempt) => Action::RemotePeerConnectionSucceeded { peer: other, attempt, link: LinkId(link as u64) },
                    None => { closed.insert(link); continue }
                }
            } else {
                Action::RemotePeerClientDidConnect { peer: other, link: LinkId(link as u64), address: String::new() }
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
