//! Limits and times: the policy's constants, each with its reason. `docs/peer-manager.md` shows them as one table.

use serde::{Deserialize, Serialize};

use crate::route::Kind;
use crate::state::Millis;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// Links of one kind that are dialed without the user asking for each, and how long they are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// How many there are.
    pub most: usize,
    /// After so long a link makes room if others wait; `None` if it never does. Milliseconds.
    pub lifetime: Option<Millis>,
    /// A dial that has not been answered for so long lets somebody else be tried in its slot meanwhile. Milliseconds.
    pub patience: Millis,
}

/// Limits and times. All times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Peers that are known at once.
    pub most_peers: usize,
    /// Routes of one peer.
    pub most_routes: usize,
    /// Signalling hubs.
    pub most_hubs: usize,
    /// Peers that one hub may announce.
    pub most_hub_peers: usize,
    /// Forgotten peers that are not taken up again at once.
    pub most_forgotten: usize,

    /// Dials under way.
    pub most_dials: usize,
    /// Links that we dialed, of all kinds together. Only what the user asks for goes beyond.
    pub most_outbound: usize,
    /// Links of those who dialed us.
    pub most_inbound: usize,
    /// Links on the local network, over loopback or private addresses.
    pub lan: Slots,
    /// Links through a room.
    pub room: Slots,
    /// Links made by a signalling hub.
    pub hub: Slots,
    /// Links to public addresses.
    pub internet: Slots,
    /// Links through Tor.
    pub onion: Slots,
    /// Links of all kinds that are dialed while our log is far behind.
    pub initial_sync_links: usize,

    /// Time for a dial with its handshake.
    pub dial_timeout: Millis,
    /// While a dial goes on, the next route of the same rank is tried after so long.
    pub stagger: Millis,
    /// Dials of one peer at once.
    pub most_dials_of_one: usize,
    /// Pause after the first failure, and after a good link has ended. Each further failure doubles it.
    pub first_pause: Millis,
    /// The same for a candidate that never was connected.
    pub first_pause_unproven: Millis,
    /// As long as there is any link that we dialed, a candidate that has failed rests for at least so long, and up to half
    /// as long again by chance.
    pub rest: Millis,
    /// No pause of a peer that was connected once is longer.
    pub longest_pause: Millis,
    /// No pause of a peer that never was connected is longer.
    pub longest_pause_unproven: Millis,
    /// No pause of a hub is longer.
    pub longest_pause_hub: Millis,
    /// So many failures in a row make a peer's priority one step lower, twice as many two.
    pub demote_after: u32,
    /// A peer that never was connected is forgotten after so many failures in a row…
    pub forget_failures: u32,
    /// …if it has been known for so long.
    pub forget_after: Millis,
    /// One that was connected is forgotten if that is so long ago.
    pub forget_lost_after: Millis,
    /// A forgotten peer is not taken up again for so long, unless by hand or because it is seen on the local network.
    pub forget_for: Millis,
    /// So many dials in a row may fail, whosever, before all dialing of candidates slows down.
    pub brake_after: u32,
    /// The longest that it is slowed down to, between two dials.
    pub brake_most: Millis,

    /// A link that ends sooner counts as a failure.
    pub stable_after: Millis,
    /// Two links with one peer, dialed from either end, began at once if the first is not older than this. It must be
    /// longer than `dial_timeout`, so that a dial can't succeed after it.
    pub race_window: Millis,
    /// While others wait for a link whose lifetime is over, one of them is tried each so often.
    pub probe_pause: Millis,
    /// A transfer that makes no progress for so long no longer holds a link.
    pub stalled_after: Millis,
    /// After a change of the network, dials of peers that were reached before are spread over this time; those of others
    /// follow over as long again.
    pub spread: Millis,
    /// A route through a hub is given up after so many failures in a row.
    pub hub_peer_failures: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            most_peers: 10_000,
            most_routes: 8,
            most_hubs: 16,
            most_hub_peers: 1_024,
            most_forgotten: 4_096,
            most_dials: 8,
            most_outbound: 32,
            most_inbound: 1_024,
            lan: Slots { most: 8, lifetime: None, patience: 1_500 },
            // 5 rooms and 2 hours: ssb-conn `conn-scheduler.js`, `updateHubNow`.
            room: Slots { most: 5, lifetime: Some(2 * HOUR), patience: 5 * SECOND },
            hub: Slots { most: 5, lifetime: Some(2 * HOUR), patience: 5 * SECOND },
            internet: Slots { most: 4, lifetime: Some(2 * HOUR), patience: 1_500 },
            onion: Slots { most: 2, lifetime: Some(2 * HOUR), patience: 10 * SECOND },
            initial_sync_links: 2,
            // 10 s for the connection (ssb-conn `conn-hub.js`) and 5 s for the handshake (ssb-config).
            dial_timeout: 15 * SECOND,
            // RFC 8305, section 8.
            stagger: 250,
            most_dials_of_one: 3,
            first_pause: 4 * SECOND,
            first_pause_unproven: 15 * MINUTE,
            rest: 6 * HOUR,
            longest_pause: 4 * HOUR,
            longest_pause_unproven: 2 * DAY,
            longest_pause_hub: 15 * MINUTE,
            demote_after: 2,
            forget_failures: 12,
            forget_after: 14 * DAY,
            forget_lost_after: 90 * DAY,
            forget_for: 30 * DAY,
            brake_after: 8,
            brake_most: 5 * MINUTE,
            stable_after: 10 * SECOND,
            race_window: 30 * SECOND,
            probe_pause: 10 * MINUTE,
            stalled_after: MINUTE,
            spread: 2 * SECOND,
            hub_peer_failures: 5,
        }
    }
}

impl Settings {
    /// The slots of one kind.
    pub fn slots(&self, kind: Kind) -> Slots {
        match kind {
            Kind::Lan => self.lan,
            Kind::Room => self.room,
            Kind::Hub => self.hub,
            Kind::Internet => self.internet,
            Kind::Onion => self.onion,
        }
    }
}
