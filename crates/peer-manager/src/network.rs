//! The network comes and goes, the machine sleeps, the settings change.

use sbot_feed::FeedId;

use crate::action::WhyHungUp;
use crate::route::is_loopback;
use crate::settings::Settings;
use crate::state::{Effects, State};

impl State {
    /// No link over the network lives any more, and nobody is dialed until there is one again, but whom the user asks for.
    pub(crate) fn network_gone(&mut self, out: &mut Effects) {
        self.online = false;
        let stays = |address: &str| is_loopback(address);
        let keys: Vec<FeedId> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get(&key) else { continue };
            let dials_out = peer.dialing.iter().any(|attempt| !stays(&attempt.route));
            let linked_out = peer.link.as_ref().is_some_and(|link| !stays(&link.address));
            if dials_out && !peer.asked {
                self.cancel_dials(key, out);
            }
            if linked_out {
                self.drop_link(key, WhyHungUp::NetworkGone, out);
            }
            if dials_out || linked_out {
                self.replan(key);
                self.sweep(key, out);
            }
        }
        self.reset_hubs(false, out);
    }

    /// There is a network, and it may be another one: all links are taken for dead.
    ///
    /// Whoever has been reached before, and whoever is to be connected always, is dialed anew, spread over
    /// [`Settings::spread`]. Those that never were reached keep their pauses: that was hardly this machine's fault.
    pub(crate) fn network_back(&mut self, why: WhyHungUp, out: &mut Effects) {
        self.online = true;
        (self.failed_in_row, self.brake_until) = (0, 0);
        let keys: Vec<FeedId> = self.peers.keys().copied().collect();
        for key in keys {
            self.cancel_dials(key, out);
            self.drop_link(key, why, out);
            let later = self.within(self.settings.spread);
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            peer.expected = None;
            peer.routes.iter_mut().for_each(|route| route.tried = false);
            if peer.last_success.is_some() || peer.is_kept_connected() || peer.failures <= 1 {
                peer.failures = 0;
                peer.routes.iter_mut().for_each(|route| route.failures = 0);
                self.plan(key, self.now.saturating_add(later));
            } else {
                self.replan(key);
            }
            self.sweep(key, out);
        }
        self.reset_hubs(true, out);
    }

    /// Works with new limits from now on. Links beyond a limit that has become smaller end as others do.
    pub(crate) fn settings_changed(&mut self, settings: Settings) {
        self.settings = settings;
        let keys: Vec<FeedId> = self.peers.keys().copied().collect();
        for key in keys {
            self.replan(key);
        }
    }
}
