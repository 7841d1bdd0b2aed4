//! The signalling hubs as clients see and change them, and which of them are to be used.

use std::collections::BTreeSet;

use sbot_multiserver::HubAddress;
use sbot_peer_manager::{Action, HubChange, HubConnection, State, Status};
use serde::{Deserialize, Serialize};

use super::PeerRuntime;
use crate::api::{self, Failure, HubEntry, HubPeer};
use crate::hubs::{self, Hubs};

/// Under this name the hubs are saved that were added by hand.
pub(super) const SAVED: &str = "hubs";

/// Which hubs the settings name, and which were added by hand: only these outlive a restart by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Configured {
    #[serde(skip)]
    settings: BTreeSet<String>,
    by_hand: BTreeSet<String>,
}

impl Configured {
    /// Those of the settings, and those that were `saved`.
    pub(super) fn new(settings: &[HubAddress], saved: Option<&[u8]>) -> Configured {
        let mut saved: Configured = saved.and_then(|saved| serde_json::from_slice(saved).ok()).unwrap_or_default();
        saved.settings = settings.iter().map(ToString::to_string).collect();
        saved
    }

    /// What makes the peer manager know exactly these.
    pub(super) fn actions(&self, known: &State) -> Vec<Action> {
        let wanted: BTreeSet<&String> = self.settings.union(&self.by_hand).collect();
        let gone = known.hubs().map(|(hub, _)| hub.to_owned()).filter(|hub| !wanted.contains(hub));
        let gone: Vec<_> = gone.map(|hub| Action::HubAddressRemoved { hub }).collect();
        let new = wanted.into_iter().map(|hub| Action::HubAddressAdded { hub: hub.clone() });
        gone.into_iter().chain(new).collect()
    }
}

impl PeerRuntime {
    /// The signalling hubs that we are at.
    pub(crate) fn hubs(&self) -> &Hubs {
        &self.hubs
    }

    /// Uses the signalling hubs of the settings and those added by hand, and no others.
    pub(crate) fn use_hubs(&self) {
        let actions = self.look(|state| self.configured.lock().actions(state));
        // A hub that is refused is told of.
        let _ = self.apply_together(actions);
    }

    /// Tells people what has become of a hub.
    pub(super) fn log_hub(&self, hub: &str, change: HubChange) {
        self.look(|state| {
            let known = state.hub(hub);
            let error = known.and_then(|known| known.last_error.as_deref());
            hubs::log(hub, change, known.map_or(0, |known| known.failures), error);
        });
    }
}

impl api::Hubs for PeerRuntime {
    fn list(&self) -> Vec<HubEntry> {
        let configured = self.configured.lock().clone();
        self.look(|state| {
            let entry = |(address, hub): (&str, &sbot_peer_manager::Hub)| {
                let status = |peer| state.status_at_hub(address, peer).unwrap_or(Status::Disconnected);
                let counts = self.hubs.counts(address).unwrap_or_default();
                HubEntry {
                    hub: address.to_owned(),
                    state: match hub.connection {
                        HubConnection::Disconnected => "disconnected",
                        HubConnection::Connecting => "connecting",
                        HubConnection::Connected => "connected",
                    },
                    state_change: hub.since,
                    source: if configured.settings.contains(address) { "config" } else { "manual" },
                    peers: hub
                        .peers
                        .iter()
                        .map(|(key, route)| HubPeer { key: *key, address: route.clone(), state: status(key) })
                        .collect(),
                    attempts: hub.attempts,
                    failures: hub.failures,
                    error: hub.last_error.clone(),
                    last_success: hub.last_success,
                    next_try: hub.next_try.filter(|_| hub.connection == HubConnection::Disconnected),
                    heard: counts.heard,
                    passed_over: counts.too_many + counts.unreadable,
                    sent: counts.sent,
                    unsent: counts.unsent,
                }
            };
            state.hubs().map(entry).collect()
        })
    }

    fn add(&self, hub: &HubAddress) -> Result<bool, Failure> {
        let name = hub.to_string();
        let known = self.look(|state| state.hub(&name).is_some());
        self.apply(Action::HubAddressAdded { hub: name.clone() });
        let (added, most) = self.look(|state| (state.hub(&name).is_some(), state.settings().most_hubs));
        if !added {
            return Err(Failure::new(format!("{name} is not used: there are {most} hubs already")));
        }
        let mut configured = self.configured.lock();
        if !configured.settings.contains(&name) {
            configured.by_hand.insert(name);
        }
        Ok(!known)
    }

    fn remove(&self, hub: &HubAddress) -> bool {
        let name = hub.to_string();
        let known = self.look(|state| state.hub(&name).is_some());
        self.configured.lock().by_hand.remove(&name);
        self.apply(Action::HubAddressRemoved { hub: name });
        known
    }
}

#[cfg(test)]
mod tests {
    use sbot_feed::FeedId;
    use sbot_peer_manager::Settings;

    use super::*;

    fn hub(name: &str) -> HubAddress {
        HubAddress::parse(name).unwrap()
    }

    #[test]
    fn hubs_of_the_settings_go_with_them_and_those_added_by_hand_stay() {
        let mut state = State::new(FeedId([1; 32]), Settings::default(), 1);
        for name in ["https://was-in-the-settings.example", "https://by-hand.example"] {
            state.apply(Action::HubAddressAdded { hub: name.into() }, 0);
        }
        let saved = br#"{"by_hand": ["https://by-hand.example"]}"#;
        let configured = Configured::new(&[hub("https://new.example")], Some(saved));
        for action in configured.actions(&state) {
            state.apply(action, 0);
        }
        let hubs: Vec<_> = state.hubs().map(|(hub, _)| hub).collect();
        assert_eq!(hubs, ["https://by-hand.example", "https://new.example"]);
        assert_eq!(Configured::new(&[], Some(b"nonsense")), Configured::default());
        let text = serde_json::to_vec(&configured).unwrap();
        assert_eq!(Configured::new(&[hub("https://new.example")], Some(&text)), configured);
    }
}
