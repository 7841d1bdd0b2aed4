//! Very many random actions in a row: nothing that must hold is broken, and nothing grows.
//!
//! `SBOT_ACTIONS` says how many; ten million take some minutes in release mode.
#![allow(clippy::unwrap_used)]

use sbot_feed::FeedId;
use sbot_peer_manager::Action;

mod runtime;

use runtime::{Event, Runtime, SOURCES, address, hub, peer, settings};

const ACTIONS: u64 = 200_000;

/// xorshift64*: any generator will do.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }

    fn peer(&mut self) -> FeedId {
        peer(self.below(400) as u16)
    }

    fn hops(&mut self) -> Option<u32> {
        Some(self.below(5) as u32).filter(|hops| *hops > 0)
    }

    fn action(&mut self) -> Action {
        let peer = self.peer();
        let on = self.below(2) == 0;
        let hub = hub(self.below(4) as u8);
        let route = address(self.below(300) as u16);
        let source = SOURCES[self.below(9) as usize];
        match self.below(40) {
            0..14 => Action::RouteAdded { peer, route, source },
            14 => Action::RouteRemoved { peer, route, source: on.then_some(source) },
            15 => Action::PeerForgotten { peer },
            16 => Action::LongTermSet { peer, on },
            17 => Action::AutoconnectSet { peer, on },
            18 => Action::PeerBanned { peer, on: on && self.below(4) == 0 },
            19..26 => Action::PeerPrioritised { peer, hops: self.hops() },
            26 => Action::ConnectRequested { peer },
            27 => Action::RemotePeerDisconnect { peer },
            28 => Action::RemotePeerConnecting { peer },
            29 => Action::DownloadStarted { peer },
            30 => Action::DownloadProgressed { peer },
            31 => Action::DownloadFinished { peer },
            32 => [Action::InitialSyncStarted, Action::InitialSyncFinished][usize::from(on)].clone(),
            33 if self.below(20) == 0 => {
                let all = [
                    Action::SchedulerStopped,
                    Action::NetworkDidDisconnect,
                    Action::NetworkDidReconnect,
                    Action::SystemDidWake,
                ];
                all[self.below(4) as usize].clone()
            }
            33 => Action::SchedulerStarted,
            34 if self.below(20) == 0 => Action::NetworkDidReconnect,
            34 | 35 => Action::HubAddressAdded { hub },
            36 if self.below(4) == 0 => Action::HubAddressRemoved { hub },
            36..38 => Action::RemotePeerDidLeave { hub, peer },
            _ => Action::RemotePeerDidAnnounce { hub, peer, route },
        }
    }
}

#[test]
fn nothing_breaks_and_nothing_grows_however_long_it_runs() {
    let actions = std::env::var("SBOT_ACTIONS").map_or(ACTIONS, |text| text.parse().unwrap());
    let mut random = Random(42);
    let settings = sbot_peer_manager::Settings { most_peers: 200, most_forgotten: 50, ..settings() };
    let mut runtime = Runtime::new(settings, false, 500);
    let (mut largest, mut measured) = ([0, 0], 0);
    while runtime.actions < actions {
        match random.below(10) {
            0..4 => {
                let action = random.action();
                runtime.happen(Event::Action(action));
            }
            4 => runtime.happen(Event::Succeed(random.below(1 << 30) as usize)),
            5 => runtime.happen(Event::Fail(random.below(1 << 30) as usize)),
            6 => {
                let (who, hops) = (random.below(400) as u16, random.hops());
                runtime.happen(Event::ComesIn(who, hops));
            }
            7 => runtime.happen(Event::Ends(random.below(1 << 30) as usize)),
            8 if random.below(2) == 0 => runtime.happen(Event::HubUp(random.below(4) as u8)),
            8 => Event::hub_lost(&mut runtime, random.below(4) as u8, random.below(2) == 0),
            _ if random.below(2) == 0 => runtime.happen(Event::Wait(random.below(100_000))),
            _ => runtime.happen(Event::Sleep),
        }
        if runtime.actions >= measured {
            measured += 10_000;
            let size = serde_json::to_vec(&runtime.state).unwrap().len();
            let half = usize::from(runtime.actions > actions / 2);
            largest[half] = largest[half].max(size);
        }
    }
    runtime.check();
    // What it holds in the second half of its life is no more than in the first, but for chance.
    assert!(largest[1] <= largest[0] + largest[0] / 4, "{largest:?} bytes");
}
