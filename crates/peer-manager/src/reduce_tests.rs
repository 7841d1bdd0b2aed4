use super::*;
use crate::{Settings, State, Status, Why};

const OWN: FeedId = FeedId([50; 32]);
/// Smaller than our key: of two links made at once, the one that it dialed stays.
const SMALL: FeedId = FeedId([1; 32]);
/// Greater than our key: of two links made at once, the one that we dialed stays.
const GREAT: FeedId = FeedId([99; 32]);
const ROUTE: &str = "net:192.0.2.1:8008~shs:x";

/// A node in a test's hands.
struct World {
    state: State,
    now: Millis,
    effects: Effects,
    links: u64,
}

impl World {
    fn new() -> Self {
        let state = State::new(OWN, Settings::default(), 7);
        let mut world = World { state, now: 1_000_000, effects: Vec::new(), links: 0 };
        world.act(Action::SchedulerStarted);
        world
    }

    /// With peers known at one route each.
    fn knowing(peers: &[FeedId]) -> Self {
        let mut world = World::new();
        for peer in peers {
            world.route(*peer, ROUTE, Source::Manual);
        }
        world
    }

    fn act(&mut self, action: Action) -> &mut Self {
        self.effects = self.state.apply(action, self.now);
        self
    }

    fn route(&mut self, peer: FeedId, route: &str, source: Source) -> &mut Self {
        self.act(Action::RouteAdded { peer, route: route.into(), source })
    }

    fn connect(&mut self, peer: FeedId) -> &mut Self {
        self.act(Action::ConnectRequested { peer })
    }

    fn dialed(&self) -> Vec<(FeedId, AttemptId, String)> {
        let dial = |effect: &Effect| match effect {
            Effect::Dial { peer, route, attempt, .. } => Some((*peer, *attempt, route.clone())),
            _ => None,
        };
        self.effects.iter().filter_map(dial).collect()
    }

    fn hung_up(&self) -> Vec<(LinkId, WhyHungUp)> {
        let hung_up = |effect: &Effect| match effect {
            Effect::HangUp { link, why, .. } => Some((*link, *why)),
            _ => None,
        };
        self.effects.iter().filter_map(hung_up).collect()
    }

    fn changes(&self) -> Vec<Change> {
        let change = |effect: &Effect| match effect {
            Effect::Changed { change, .. } => Some(*change),
            _ => None,
        };
        self.effects.iter().filter_map(change).collect()
    }

    fn refused(&self) -> Option<Refusal> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Refused { why, .. } => Some(*why),
            _ => None,
        })
    }

    fn attempt(&self, peer: FeedId) -> AttemptId {
        self.state.peer(&peer).unwrap().dialing.as_ref().expect("it is being dialed").id
    }

    fn succeed(&mut self, peer: FeedId) -> LinkId {
        let attempt = self.attempt(peer);
        self.links += 1;
        let link = LinkId(self.links);
        self.act(Action::RemotePeerConnectionSucceeded { peer, attempt, link });
        link
    }

    fn fail(&mut self, peer: FeedId) -> &mut Self {
        let attempt = self.attempt(peer);
        self.act(Action::RemotePeerConnectionFailed { peer, attempt, error: "connection refused".into() })
    }

    fn comes_in(&mut self, peer: FeedId) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        self.act(Action::RemotePeerClientDidConnect { peer, link, address: "net:192.0.2.9:50000~shs:x".into() });
        link
    }

    fn ends(&mut self, peer: FeedId, link: LinkId) -> &mut Self {
        self.act(Action::RemotePeerDidDisconnect { peer, link, error: None })
    }

    fn status(&self, peer: FeedId) -> Status {
        self.state.peer(&peer).unwrap().status()
    }

    /// Lets time pass until the peer is due, and returns how long that took.
    fn wait_for(&mut self, peer: FeedId) -> Millis {
        let when = self.state.peer(&peer).unwrap().next_try.expect("it will be dialed again");
        let waited = when - self.now;
        self.now = when;
        self.act(Action::PeerConnectionTimerTicked);
        waited
    }
}

#[test]
fn a_route_makes_a_peer_known_and_nothing_more() {
    let mut world = World::new();
    world.route(SMALL, ROUTE, Source::Manual);
    assert_eq!(world.changes(), [Change::Added]);
    assert!(world.effects.contains(&Effect::Persist) && world.dialed().is_empty());
    assert_eq!(world.state.why(&SMALL), Why::NotAskedFor);
    world.route(SMALL, ROUTE, Source::Pub);
    let peer = world.state.peer(&SMALL).unwrap();
    assert_eq!((peer.routes.len(), peer.routes[0].announced, peer.routes[0].source), (1, 2, Source::Manual));
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
    world.act(Action::RouteRemoved { peer: SMALL, route: ROUTE.into() });
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
    world.route(SMALL, "net:192.0.2.2:8008~shs:x", Source::Manual);
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
    world.act(Action::DisconnectRequested { peer: SMALL });
    assert_eq!(world.hung_up(), [(link, WhyHungUp::ByHand)]);
    assert_eq!(world.status(SMALL), Status::Disconnecting);
    world.ends(SMALL, link);
    assert_eq!(world.status(SMALL), Status::Disconnected);
    assert_eq!(world.state.why(&SMALL), Why::DisconnectedByHand);
    assert_eq!(world.state.peer(&SMALL).unwrap().next_try, None);
    assert_eq!(world.connect(SMALL).dialed().len(), 1);
    world.act(Action::DisconnectRequested { peer: SMALL });
    assert!(matches!(world.effects[..], [Effect::Persist, Effect::CancelDial { .. }, ..]));
    assert_eq!(world.status(SMALL), Status::Disconnected);
}

#[test]
fn a_dial_that_succeeds_after_it_was_broken_off_is_hung_up() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    let attempt = world.attempt(SMALL);
    world.act(Action::DisconnectRequested { peer: SMALL });
    world.act(Action::RemotePeerConnectionSucceeded { peer: SMALL, attempt, link: LinkId(9) });
    assert_eq!(world.hung_up(), [(LinkId(9), WhyHungUp::NoLongerWanted)]);
    assert_eq!(world.status(SMALL), Status::Disconnected);
}

#[test]
fn asking_again_while_a_link_is_being_closed_dials_once_it_is() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    let link = world.succeed(SMALL);
    world.act(Action::DisconnectRequested { peer: SMALL }).connect(SMALL);
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
    assert_eq!(world.state.peer(&SMALL).unwrap().next_try, None);
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
    world.act(Action::SettingsChanged(settings));
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
        peers.iter().filter_map(|peer| world.state.peer(peer).unwrap().next_try).collect();
    assert!(times.len() > 3 && times.iter().all(|time| *time < world.now + 5_000), "{times:?}");
}

#[test]
fn time_never_runs_backwards() {
    let mut world = World::knowing(&[SMALL]);
    world.connect(SMALL);
    world.now = 0;
    world.fail(SMALL);
    assert!(world.state.peer(&SMALL).unwrap().next_try.unwrap() > 1_000_000);
}

#[test]
fn what_deserves_it_is_kept_over_a_restart() {
    let mut world = World::knowing(&[SMALL, GREAT]);
    world.connect(SMALL);
    world.succeed(SMALL);
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
    assert_eq!(state.dials(), 1);
}

#[test]
fn who_is_on_the_local_network_is_dialed_if_we_follow_it() {
    let mut world = World::new();
    world.route(GREAT, ROUTE, Source::Local);
    assert_eq!((world.dialed(), world.state.why(&GREAT)), (vec![], Why::NotAskedFor));
    world.act(Action::PeerPrioritised { peer: GREAT, hops: Some(2) });
    assert_eq!(world.dialed(), []);
    world.act(Action::PeerPrioritised { peer: GREAT, hops: Some(1) });
    assert_eq!(world.dialed().len(), 1);
    world.act(Action::PeerPrioritised { peer: SMALL, hops: Some(1) });
    assert!(world.state.peer(&SMALL).is_none(), "what isn't known isn't kept");
    // From elsewhere it takes more than following it.
    world.route(SMALL, ROUTE, Source::Pub).act(Action::PeerPrioritised { peer: SMALL, hops: Some(1) });
    assert_eq!((world.dialed(), world.state.why(&SMALL)), (vec![], Why::NotAskedFor));
}

#[test]
fn who_left_the_local_network_is_not_dialed_any_more() {
    let mut world = World::new();
    world.route(GREAT, ROUTE, Source::Local).act(Action::PeerPrioritised { peer: GREAT, hops: Some(1) });
    let attempt = world.attempt(GREAT);
    world.act(Action::RemotePeerConnectionFailed { peer: GREAT, attempt, error: "no".into() });
    assert!(matches!(world.state.why(&GREAT), Why::Pausing { .. }));
    world.act(Action::RouteRemoved { peer: GREAT, route: ROUTE.into() });
    assert!(world.state.peer(&GREAT).is_none());
}
