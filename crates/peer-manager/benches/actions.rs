//! What an action costs with 10,000 known peers: `cargo bench -p sbot-peer-manager`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sbot_feed::FeedId;
use sbot_peer_manager::{Action, Effect, LinkId, Settings, Source, State};

const PEERS: u32 = 10_000;
const ACTIONS: usize = 1_000_000;

fn peer(number: u32) -> FeedId {
    let mut key = [0; 32];
    // Spread over the table as real keys are.
    key[..8].copy_from_slice(&(u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    FeedId(key)
}

fn route(number: u32) -> String {
    format!("net:pub-{number}.example:8008~shs:{}=", "x".repeat(43))
}

/// Time by kind of action.
#[derive(Default)]
struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    fn apply(&mut self, name: &'static str, state: &mut State, action: Action, now: u64) -> Vec<Effect> {
        let start = Instant::now();
        let effects = state.apply(action, now);
        self.0.entry(name).or_default().push(start.elapsed());
        effects
    }
}

fn main() {
    let mut state = State::new(FeedId([7; 32]), Settings::default(), 1);
    let mut now = 1_000_000;
    let start = Instant::now();
    for number in 0..PEERS {
        state.apply(Action::RouteAdded { peer: peer(number), route: route(number), source: Source::Pub }, now);
        let hops = Some(number % 5).filter(|hops| *hops > 0);
        state.apply(Action::PeerPrioritised { peer: peer(number), hops }, now);
    }
    println!("{PEERS} peers made known in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);

    // Half of the addresses are dead; links last half an hour, peers announce themselves, feeds tell of pubs.
    let mut times = Times::default();
    let mut dials = std::collections::VecDeque::new();
    let mut links = std::collections::VecDeque::new();
    let mut random = 88_172_645_463_325_252u64;
    let (mut done, mut next_link) = (0, 0);
    let mut wake = now;
    let mut effects = times.apply("SchedulerStarted", &mut state, Action::SchedulerStarted, now);
    while done < ACTIONS {
        for effect in effects.drain(..) {
            match effect {
                Effect::Dial { peer, attempt, .. } => dials.push_back((peer, attempt)),
                Effect::HangUp { peer, link, .. } => links.push_front((peer, link)),
                Effect::WakeMeAt(when) => wake = when,
                _ => {}
            }
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let number = (random >> 20) as u32 % PEERS;
        let key = peer(number);
        done += 1;
        now += 200;
        let (name, action) = match random % 16 {
            0..4 if !dials.is_empty() => {
                let (peer, attempt) = dials.pop_front().unwrap();
                if peer.0[5] % 2 == 0 {
                    let error = "connection refused".into();
                    ("RemotePeerConnectionFailed", Action::RemotePeerConnectionFailed { peer, attempt, error })
                } else {
                    next_link += 1;
                    let link = LinkId(next_link);
                    links.push_back((peer, link));
                    ("RemotePeerConnectionSucceeded", Action::RemotePeerConnectionSucceeded { peer, attempt, link })
                }
            }
            4 if !links.is_empty() => {
                let (peer, link) = links.pop_front().unwrap();
                ("RemotePeerDidDisconnect", Action::RemotePeerDidDisconnect { peer, link, error: None })
            }
            5 if links.len() < 500 => {
                next_link += 1;
                let (link, address) = (LinkId(next_link), "net:192.0.2.1:40000".into());
                links.push_back((key, link));
                let hops = Some(number % 5).filter(|hops| *hops > 0);
                let action = Action::RemotePeerClientDidConnect { peer: key, link, address, hops };
                ("RemotePeerClientDidConnect", action)
            }
            6..9 => ("RouteAdded, known", Action::RouteAdded { peer: key, route: route(number), source: Source::Pub }),
            9 => {
                let source = Source::Pub;
                let peer = peer(PEERS + (random >> 33) as u32 % 1_000_000);
                ("RouteAdded, table full", Action::RouteAdded { peer, route: route(number), source })
            }
            10..12 => {
                let hops = Some((random >> 50) as u32 % 4).filter(|hops| *hops > 0);
                ("PeerPrioritised", Action::PeerPrioritised { peer: key, hops })
            }
            12..14 => ("DownloadProgressed", Action::DownloadProgressed { peer: key }),
            _ => {
                now = now.max(wake);
                ("PeerConnectionTimerTicked", Action::PeerConnectionTimerTicked)
            }
        };
        effects = times.apply(name, &mut state, action, now);
    }

    let mut all: Vec<Duration> = times.0.values().flatten().copied().collect();
    println!("{:<32}{:>10}{:>10}{:>10}", "action", "count", "mean ns", "p99 ns");
    for (name, times) in &mut times.0 {
        print(name, times);
    }
    print("all", &mut all);
    let start = Instant::now();
    let saved = serde_json::to_vec(&state.saved()).unwrap();
    let time = start.elapsed().as_secs_f64() * 1e3;
    println!("saving {} peers: {:.1} MB in {time:.1} ms", state.peers().len(), saved.len() as f64 / 1e6);
}

fn print(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>().as_nanos() / times.len() as u128;
    let p99 = times[times.len() * 99 / 100].as_nanos();
    println!("{name:<32}{:>10}{mean:>10}{p99:>10}", times.len());
}
