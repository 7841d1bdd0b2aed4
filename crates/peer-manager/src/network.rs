//! The network comes and goes, the machine sleeps, the settings change.

use sbot_feed::FeedId;

use crate::action::WhyHungUp;
use crate::route::is_loopback;
use crate::settings::Settings;
use crate::state::{Effects, State};

/// Who has failed no more often than this in a row is likely there.
const FEW_FAILURES: u32 = 2;

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
    /// [`Settings::spread`], and all others not before that. Those that never were reached keep their pauses: that was
    /// hardly this machine's fault. Nobody's failures are forgotten: friends' machines are off as often as ours is.
    pub(crate) fn network_back(&mut self, why: WhyHungUp, out: &mut Effects) {
        self.online = true;
        // Timers may have stood still while the machine slept.
        self.wake = None;
        (self.failed_in_row, self.brake_until) = (0, 0);
        let keys: Vec<FeedId> = self.peers.keys().copied().collect();
        for key in keys {
            self.cancel_dials(key, out);
            self.drop_link(key, why, out);
            let later = self.within(self.settings.spread);
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            peer.expected = None;
            peer.routes.iter_mut().for_each(|route| route.tried = false);
            peer.rests = None;
            let known = peer.last_success.is_some() || peer.is_kept_connected();
            let after = self.now.saturating_add(self.settings.spread).saturating_add(later);
            let when = match peer.next_try() {
                _ if known && peer.failures <= FEW_FAILURES => self.now.saturating_add(later),
                Some(when) if !known => when.max(after),
                _ => after,
            };
            self.plan(key, when);
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
