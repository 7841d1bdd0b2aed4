//! Tests of the reducer, action by action.

use sbot_feed::FeedId;

use crate::*;

mod basics;
mod hubs;
mod network;
mod slots;

type Effects = Vec<Effect>;

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

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut world = World::new();
        let mut settings = Settings::default();
        change(&mut settings);
        world.act(Action::SettingsChanged(Box::new(settings)));
        world
    }

    /// With strangers known at one route each, whom nobody asked for.
    fn knowing(peers: &[FeedId]) -> Self {
        let mut world = World::new();
        for peer in peers {
            world.route(*peer, ROUTE, Source::Staged);
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
        self.state.peer(&peer).unwrap().dialing.first().expect("it is being dialed").id
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
        let hops = self.state.peer(&peer).and_then(|known| known.hops);
        let address = "net:192.0.2.9:50000~shs:x".into();
        self.act(Action::RemotePeerClientDidConnect { peer, link, address, hops });
        link
    }

    fn ends(&mut self, peer: FeedId, link: LinkId) -> &mut Self {
        self.act(Action::RemotePeerDidDisconnect { peer, link, error: None })
    }

    /// Lets time pass, and wakes the reducer whenever it wants to be.
    fn wait(&mut self, time: Millis) -> Effects {
        let (until, mut all) = (self.now + time, Vec::new());
        while let Some(when) = self.state.wake.filter(|when| *when <= until) {
            self.now = self.now.max(when);
            self.act(Action::PeerConnectionTimerTicked);
            all.append(&mut self.effects.clone());
        }
        self.now = until;
        self.act(Action::PeerConnectionTimerTicked);
        all.append(&mut self.effects.clone());
        all
    }

    /// The peers that are being dialed.
    fn dialing(&self) -> Vec<FeedId> {
        self.state.peers().filter(|(_, peer)| !peer.dialing.is_empty()).map(|(key, _)| *key).collect()
    }

    fn status(&self, peer: FeedId) -> Status {
        self.state.peer(&peer).unwrap().status()
    }

    /// Lets time pass until the peer is due, and returns how long that took.
    fn wait_for(&mut self, peer: FeedId) -> Millis {
        let when = self.state.peer(&peer).unwrap().next_try().expect("it will be dialed again");
        let waited = when - self.now;
        self.now = when;
        self.act(Action::PeerConnectionTimerTicked);
        waited
    }
}

/// A public address of its own for each number.
fn public(number: u8) -> String {
    format!("net:198.51.100.{number}:8008~shs:x")
}

fn peer(number: u8) -> FeedId {
    FeedId([number; 32])
}
