//! A peer with the production reducer: facts become its actions, its effects become wishes.

use std::time::Instant;

use sbot_feed::FeedId;
use sbot_peer_manager::{Action, AttemptId, Change, Effect, LinkId, Saved, Settings, Source, State};

use crate::graph::NodeId;
use crate::measure::Cost;
use crate::policy::{Fact, Holding, Policy, Wish};
use crate::random::Draws;
use crate::settings::Millis;
use crate::world::{Address, World};

/// The simulation begins at the start of 2026: the reducer counts from 1970.
const EPOCH: Millis = 1_767_225_600_000;

/// One peer with the reducer.
#[derive(Debug)]
pub(crate) struct Ours {
    own: NodeId,
    state: State,
    /// What it finds on disk when it starts.
    saved: Saved,
    draws: Draws,
}

impl Ours {
    /// One that was never started before.
    pub(crate) fn new(own: NodeId, world: &World, draws: Draws) -> Self {
        let state = State::new(key(own), Settings::default(), 0);
        let mut ours = Ours { own, state, saved: Saved::default(), draws };
        for address in &world.books[own as usize] {
            let route = Action::RouteAdded { peer: key(address.peer), route: text(*address), source: Source::Stored };
            ours.apply(route, 0, world, &mut Vec::new(), &mut Cost::default());
        }
        ours.saved = ours.state.saved();
        ours
    }

    fn start(&mut self, now: Millis, world: &World, wishes: &mut Vec<Wish>, cost: &mut Cost) {
        let (saved, seed) = (std::mem::take(&mut self.saved), self.draws.number());
        self.state = State::restore(key(self.own), Settings::default(), seed, EPOCH + now, saved);
        let known: Vec<FeedId> = self.state.peers().map(|(peer, _)| *peer).collect();
        for peer in known {
            if let Some(relation) = self.relation(peer, world) {
                self.apply(relation, now, world, wishes, cost);
            }
        }
        self.apply(Action::SchedulerStarted, now, world, wishes, cost);
    }

    fn apply(&mut self, action: Action, now: Millis, world: &World, wishes: &mut Vec<Wish>, cost: &mut Cost) {
        let mut next = vec![action];
        while let Some(action) = next.pop() {
            let begun = Instant::now();
            let effects = self.state.apply(action, EPOCH + now);
            cost.add(begun.elapsed());
            for effect in effects {
                match effect {
                    Effect::Dial { route, attempt, timeout, .. } => {
                        let Some(address) = parse(&route) else { continue };
                        wishes.push(Wish::Dial { attempt: attempt.0, address, timeout });
                    }
                    Effect::CancelDial { attempt, .. } => wishes.push(Wish::Cancel { attempt: attempt.0 }),
                    Effect::HangUp { link, .. } => wishes.push(Wish::HangUp { link: link.0 }),
                    Effect::WakeMeAt(when) => wishes.push(Wish::WakeAt(when.saturating_sub(EPOCH))),
                    // As the node does: whoever becomes known is looked up in the social graph.
                    Effect::Changed { peer, change: Change::Added } => next.extend(self.relation(peer, world)),
                    _ => {}
                }
            }
        }
    }

    /// How far a peer is, or that it is blocked; `None` for strangers.
    fn relation(&self, peer: FeedId, world: &World) -> Option<Action> {
        let other = node(peer);
        if world.blocks(self.own, other) {
            return Some(Action::PeerBanned { peer, on: true });
        }
        let hops = world.hops(self.own, other)?;
        Some(Action::PeerPrioritised { peer, hops: Some(u32::from(hops)) })
    }
}

impl Policy for Ours {
    fn note(&mut self, fact: Fact, now: Millis, world: &World, wishes: &mut Vec<Wish>, cost: &mut Cost) {
        let action = match fact {
            Fact::Started => return self.start(now, world, wishes, cost),
            Fact::Stopped => {
                self.saved = self.state.saved();
                self.state = State::new(key(self.own), Settings::default(), 0);
                return;
            }
            Fact::Woke => Action::SystemDidWake,
            Fact::NetworkChanged => Action::NetworkDidReconnect,
            Fact::Heard(address) => {
                Action::RouteAdded { peer: key(address.peer), route: text(address), source: Source::Pub }
            }
            Fact::Dialed { peer, attempt, link } => Action::RemotePeerConnectionSucceeded {
                peer: key(peer),
                attempt: AttemptId(attempt),
                link: LinkId(link),
            },
            Fact::DialFailed { peer, attempt } => Action::RemotePeerConnectionFailed {
                peer: key(peer),
                attempt: AttemptId(attempt),
                error: "no answer".to_owned(),
            },
            Fact::Called { peer, link } => Action::RemotePeerClientDidConnect {
                peer: key(peer),
                link: LinkId(link),
                address: "net:caller.example:40000".to_owned(),
                hops: world.hops(self.own, peer).map(u32::from),
            },
            Fact::Ended { peer, link } => {
                Action::RemotePeerDidDisconnect { peer: key(peer), link: LinkId(link), error: None }
            }
            Fact::TransferStarted { peer } => Action::DownloadStarted { peer: key(peer) },
            Fact::TransferFinished { peer } => Action::DownloadFinished { peer: key(peer) },
            Fact::MessageCame { .. } => return,
            Fact::Tick => Action::PeerConnectionTimerTicked,
        };
        self.apply(action, now, world, wishes, cost);
    }

    fn holds(&self) -> Holding {
        let (settings, (outbound, inbound)) = (self.state.settings(), self.state.links());
        let over_limit = self.state.dials() > settings.most_dials
            || outbound > settings.most_outbound
            || inbound > settings.most_inbound;
        Holding { known: self.state.peers().len(), over_limit }
    }

    fn bytes(&self) -> usize {
        serde_json::to_vec(&self.state).map_or(0, |json| json.len())
    }
}

/// The key of a peer: its number, behind bytes that look like any key's, so that keys aren't ordered as numbers are.
fn key(node: NodeId) -> FeedId {
    let mut bytes = [0; 32];
    let mut draws = Draws::new(u64::from(node));
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&draws.number().to_le_bytes());
    }
    bytes[28..].copy_from_slice(&node.to_le_bytes());
    FeedId(bytes)
}

fn node(key: FeedId) -> NodeId {
    NodeId::from_le_bytes([key.0[28], key.0[29], key.0[30], key.0[31]])
}

/// An address as text: what the world needs to know of it is in the host's name.
fn text(address: Address) -> String {
    let there = match address {
        Address { alive: true, .. } => "alive",
        Address { refuses: true, .. } => "refuses",
        _ => "silent",
    };
    format!("net:{}.{there}.example:8008~shs:{:0>44}", address.peer, address.peer)
}

fn parse(text: &str) -> Option<Address> {
    let mut parts = text.strip_prefix("net:")?.split('.');
    let peer = parts.next()?.parse().ok()?;
    let there = parts.next()?;
    Some(Address { peer, alive: there == "alive", refuses: there == "refuses", hops: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_addresses_lead_back_to_peers() {
        for peer in [0, 1, 77, 1_000_000] {
            assert_eq!(node(key(peer)), peer);
            for (alive, refuses) in [(true, false), (false, true), (false, false)] {
                let address = Address { peer, alive, refuses, hops: None };
                assert_eq!(parse(&text(address)), Some(address));
            }
        }
    }
}
