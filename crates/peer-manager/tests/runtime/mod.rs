//! A small runtime that carries out the effects as the node does, at random, and checks what must always hold.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sbot_feed::FeedId;
use sbot_peer_manager::{
    Action, AttemptId, Direction, Effect, Kind, LinkId, Millis, Settings, Slots, Source, State, Why,
};

pub const OWN: FeedId = FeedId([4; 32]);

pub fn peer(number: u16) -> FeedId {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    if number < 256 { FeedId([number as u8; 32]) } else { FeedId(key) }
}

pub fn hub(number: u8) -> String {
    format!("https://{number}.example")
}

/// Small limits, so that all of them are met.
pub fn settings() -> Settings {
    let few = |most| Slots { most, lifetime: Some(600_000), patience: 1_000 };
    Settings {
        most_peers: 12,
        most_routes: 3,
        most_hubs: 2,
        most_hub_peers: 3,
        most_forgotten: 3,
        most_dials: 4,
        most_outbound: 5,
        most_inbound: 3,
        lan: Slots { most: 2, lifetime: None, patience: 1_000 },
        room: few(1),
        hub: few(2),
        internet: few(2),
        onion: few(1),
        forget_failures: 3,
        forget_after: 60_000,
        forget_for: 600_000,
        probe_pause: 60_000,
        ..Settings::default()
    }
}

/// What may happen; numbers pick among what is possible at that moment.
#[derive(Debug, Clone)]
pub enum Event {
    Action(Action),
    Succeed(usize),
    Fail(usize),
    ComesIn(u16, Option<u32>),
    Ends(usize),
    HubUp(u8),
    Wait(Millis),
    /// Sleeps until the reducer wants to be woken.
    Sleep,
}

/// Dials under way and links, as the outside world has them.
pub struct Runtime {
    pub state: State,
    pub now: Millis,
    pub dials: BTreeMap<AttemptId, FeedId>,
    pub links: BTreeMap<LinkId, FeedId>,
    pub hubs: BTreeSet<String>,
    pub log: Vec<(Action, Millis, Vec<Effect>)>,
    keeps_log: bool,
    wake: Option<Millis>,
    next: u64,
    banned: BTreeSet<FeedId>,
    pub actions: u64,
    checked_every: u64,
}

impl Runtime {
    /// Checks all after every `checked_every` actions, and what they lead to after each.
    pub fn new(settings: Settings, keeps_log: bool, checked_every: u64) -> Self {
        let mut runtime = Runtime {
            state: State::new(OWN, settings, 3),
            now: 1_000,
            dials: BTreeMap::new(),
            links: BTreeMap::new(),
            hubs: BTreeSet::new(),
            log: Vec::new(),
            keeps_log,
            wake: None,
            next: 0,
            banned: BTreeSet::new(),
            actions: 0,
            checked_every,
        };
        runtime.act(Action::SchedulerStarted);
        runtime
    }

    pub fn act(&mut self, action: Action) {
        let mut actions = VecDeque::from([action]);
        while let Some(action) = actions.pop_front() {
            let effects = self.state.apply(action.clone(), self.now);
            self.note(&action, &effects);
            for effect in &effects {
                self.carry_out(effect, &mut actions);
            }
            self.check_dials(&effects);
            self.actions += 1;
            if self.keeps_log {
                self.log.push((action, self.now, effects));
            }
        }
        if self.actions.is_multiple_of(self.checked_every) {
            self.check();
        }
    }

    fn note(&mut self, action: &Action, effects: &[Effect]) {
        let refused = effects.iter().any(|effect| matches!(effect, Effect::Refused { .. }));
        match action {
            Action::PeerBanned { peer, on: true } if !refused => drop(self.banned.insert(*peer)),
            Action::PeerBanned { peer, on: false } => drop(self.banned.remove(peer)),
            Action::PeerConnectionTimerTicked => self.wake = None,
            _ => {}
        }
    }

    fn carry_out(&mut self, effect: &Effect, reports: &mut VecDeque<Action>) {
        match effect {
            Effect::Dial { peer, attempt, .. } => {
                assert!(*peer != OWN && !self.banned.contains(peer), "dialed {peer}");
                assert!(self.links.values().all(|linked| linked != peer), "dialed a connected peer");
                self.dials.insert(*attempt, *peer);
            }
            Effect::CancelDial { attempt, .. } => {
                self.dials.remove(attempt).expect("a dial under way");
            }
            Effect::HangUp { peer, link, .. } => {
                self.links.remove(link).expect("a link that is up");
                reports.push_back(Action::RemotePeerDidDisconnect { peer: *peer, link: *link, error: None });
            }
            Effect::WakeMeAt(when) => {
                assert!(*when > self.now);
                self.wake = Some(*when);
            }
            Effect::ConnectToHub { hub } => assert!(self.hubs.insert(hub.clone()), "connected twice to {hub}"),
            Effect::LeaveHub { hub } => drop(self.hubs.remove(hub)),
            _ => {}
        }
    }

    /// Nobody is dialed beyond the limits.
    fn check_dials(&self, effects: &[Effect]) {
        let settings = self.state.settings();
        let taken: usize = Kind::ALL.into_iter().map(|kind| self.state.slots_taken(kind)).sum();
        for effect in effects {
            let Effect::Dial { peer, route, .. } = effect else { continue };
            let known = self.state.peer(peer).unwrap();
            assert!(known.dialing.len() <= settings.most_dials_of_one);
            // Further routes of a peer that is being dialed take no further slot.
            if !known.is_kept_connected() && known.dialing.len() == 1 {
                let kind = known.routes.iter().find(|known| known.address == *route).unwrap().kind;
                // One more than there are while somebody is tried who is to follow another one.
                assert!(self.state.slots_taken(kind) <= settings.slots(kind).most + 1, "{kind:?}");
                assert!(taken <= settings.most_outbound);
            }
        }
    }

    pub fn check(&self) {
        let state = &self.state;
        let mut seen = BTreeSet::new();
        for linked in self.links.values() {
            assert!(seen.insert(*linked), "two links with {linked}");
        }
        let settings = state.settings();
        let (outbound, inbound) = state.links();
        assert_eq!(outbound + inbound, self.links.len());
        assert_eq!(state.dials(), self.dials.len());
        assert!(self.dials.len() <= settings.most_dials);
        assert!(inbound <= settings.most_inbound);
        assert!(state.peers().len() <= settings.most_peers);
        assert!(state.hubs().len() <= settings.most_hubs);
        assert!(state.hubs().all(|(_, hub)| hub.peers.len() <= settings.most_hub_peers));
        assert!(state.saved().forgotten.len() <= settings.most_forgotten);
        for (key, peer) in state.peers() {
            assert_ne!(*key, OWN);
            assert!(peer.routes.len() <= settings.most_routes);
            let link = peer.link.as_ref();
            assert_eq!(link.map(|link| self.links.get(&link.id)), link.map(|_| Some(key)));
            // Whoever is to be connected is, or is being dialed, or will be.
            let kept = peer.is_kept_connected() && !peer.banned && !peer.routes.is_empty();
            if kept && link.is_none() && peer.dialing.is_empty() {
                assert!(peer.next_try().is_some(), "{key} waits for nothing: {:?}", state.why(key));
            }
            // Whoever failed has a next try, or a reason why not.
            if peer.failures > 0 && peer.next_try().is_none() && link.is_none() && peer.dialing.is_empty() {
                let why = state.why(key);
                let explained = matches!(
                    why,
                    Why::Banned
                        | Why::DisconnectedByHand
                        | Why::NoRoute
                        | Why::NoAutoconnect
                        | Why::Stranger
                        | Why::NotAskedFor
                );
                assert!(explained, "{key}: {why:?}");
            }
        }
        self.check_books();
    }

    /// The queues and counters hold what follows from the peers, and no more.
    fn check_books(&self) {
        let json = serde_json::to_value(&self.state).unwrap();
        let length = |name: &str| json[name].as_array().unwrap().len();
        let peers = || self.state.peers().map(|(_, peer)| peer);
        let count = |filter: &dyn Fn(&sbot_peer_manager::Peer) -> bool| peers().filter(|peer| filter(peer)).count();
        assert_eq!(length("due") + length("ready") + length("resting"), count(&|peer| peer.next_try().is_some()));
        assert!(length("staggered") <= count(&|peer| !peer.dialing.is_empty()));
        let outgoing = |peer: &sbot_peer_manager::Peer| {
            peer.link.as_ref().is_some_and(|link| link.direction == Direction::Outgoing)
        };
        let leaving = |peer: &sbot_peer_manager::Peer| peer.link.as_ref().is_some_and(|link| link.leaving);
        assert_eq!(length("aging"), count(&|peer| outgoing(peer) && !leaving(peer)));
        let numbers =
            |name: &str| json[name].as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize);
        let taken: usize = numbers("slots").sum();
        let overdue: usize = numbers("silent").sum();
        assert!(overdue + length("patience") <= count(&|peer| !peer.dialing.is_empty()));
        assert_eq!(taken, count(&|peer| outgoing(peer) || !peer.dialing.is_empty()));
        assert_eq!(self.dials.len(), peers().map(|peer| peer.dialing.len()).sum::<usize>());
        // It asked to be woken for whatever is due.
        let next = json["due"].as_array().unwrap().first().map(|due| due[0].as_u64().unwrap());
        if let Some(next) = next.filter(|_| self.state.is_running() && self.state.is_online()) {
            assert!(self.wake.is_some_and(|wake| wake <= next.max(self.now + 1)), "{next} {:?}", self.wake);
        }
    }

    pub fn happen(&mut self, event: Event) {
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
            Event::ComesIn(number, hops) if peer(number) != OWN => {
                self.next += 1;
                let link = LinkId(self.next);
                self.links.insert(link, peer(number));
                let address = "net:192.0.2.200:50000".into();
                self.act(Action::RemotePeerClientDidConnect { peer: peer(number), link, address, hops });
            }
            Event::ComesIn(..) => {}
            Event::Ends(number) => {
                let Some((link, peer)) = self.links.iter().nth(pick(number, self.links.len())) else { return };
                let (link, peer) = (*link, *peer);
                self.links.remove(&link);
                self.act(Action::RemotePeerDidDisconnect { peer, link, error: None });
            }
            Event::HubUp(number) => {
                if self.hubs.contains(&hub(number)) {
                    self.act(Action::HubConnectionSucceeded { hub: hub(number) });
                }
            }
            Event::Wait(time) => {
                self.now += time;
                self.act(Action::PeerConnectionTimerTicked);
            }
            Event::Sleep => {
                if let Some(wake) = self.wake {
                    self.now = self.now.max(wake);
                    self.act(Action::PeerConnectionTimerTicked);
                }
            }
        }
    }
}

impl Event {
    /// Ends of hubs have to be told to the outside world, too.
    pub fn hub_lost(runtime: &mut Runtime, number: u8, failed: bool) {
        if runtime.hubs.remove(&hub(number)) {
            let hub = hub(number);
            runtime.act(match failed {
                true => Action::HubConnectionFailed { hub, error: "no answer".into() },
                false => Action::HubDidDisconnect { hub, error: None },
            });
        }
    }
}

/// The sources of routes.
pub const SOURCES: [Source; 9] = [
    Source::Manual,
    Source::Seed,
    Source::Stored,
    Source::Pub,
    Source::Invite,
    Source::Dht,
    Source::Hub,
    Source::Local,
    Source::Staged,
];

/// Addresses of all kinds.
pub fn address(number: u16) -> String {
    match number % 6 {
        0 => format!("net:192.168.0.{}:8008~shs:x", number % 250),
        1 => format!("onion:{number}.onion:8008~shs:x"),
        2 => format!("tunnel:@room.ed25519:@{number}.ed25519~shs:x"),
        3 => format!("rtc:hub.example:{number}~shs:x"),
        _ => format!("net:192.0.2.{}:8008~shs:x", number % 250),
    }
}
