//! The world's parameters, all in one place, with their defaults.

/// Milliseconds of virtual time since the simulation's beginning.
pub type Millis = u64;

/// A second.
pub const SECOND: Millis = 1_000;
/// A minute.
pub const MINUTE: Millis = 60 * SECOND;
/// An hour.
pub const HOUR: Millis = 60 * MINUTE;
/// A day.
pub const DAY: Millis = 24 * HOUR;

/// What the world is like. Shares and chances are between 0 and 1, times in milliseconds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Living peers: pubs and people.
    pub peers: usize,
    /// How long the world is watched.
    pub duration: Millis,
    /// All chance comes from here.
    pub seed: u64,

    /// Share of the peers that are pubs: always on, with a public address.
    pub pubs: f64,
    /// Share of the people whose machine can be dialed while it is on; the others sit behind a NAT and can only dial.
    pub open_homes: f64,
    /// Share of the people whose machine is always on.
    pub always_on: f64,

    /// Whom a person follows at first: the median of a log-normal distribution…
    pub follows_median: f64,
    /// …and its sigma.
    pub follows_sigma: f64,
    /// Most people that one follows at first.
    pub follows_most: usize,
    /// Chance that the next one to follow is a friend's friend (Holme and Kim, "Growing scale-free networks with tunable
    /// clustering"), and not one picked by how many follow it.
    pub triads: f64,
    /// Chance that someone who is followed follows back.
    pub follow_back: f64,
    /// Chance that a person blocks somebody.
    pub blocks: f64,
    /// Pubs of which a person is a guest (they follow each other): 1 to this.
    pub guest_of: usize,
    /// Chance that a person's next pub is one of its friends', and not one picked by its popularity.
    pub friends_pub: f64,
    /// Feeds up to this distance are replicated, and only distances up to it are known (`friends.hops`: 2 in ssb-config;
    /// ssb-friends takes it for the `max` of its graph).
    pub hops: u8,

    /// Addresses of other pubs that everyone knows, besides those of its own.
    pub other_pubs: usize,
    /// Chance to know the address of a dialable friend.
    pub friends_address: f64,
    /// Most addresses of friends.
    pub friends_addresses: usize,
    /// Share of all known addresses that are dead.
    pub dead: f64,
    /// Share of the dead addresses that belong to living friends who are no longer there; the others are of peers that
    /// are gone for good.
    pub moved: f64,
    /// Share of the dead addresses that answer with a refusal; the others never answer.
    pub refusing: f64,
    /// Addresses that everyone hears of in `pub` messages, a day.
    pub heard_a_day: f64,

    /// Sessions that a person has a day, on average; the share by which they are longer or shorter is drawn per person.
    pub sessions_a_day: f64,
    /// Median length of a session; log-normal.
    pub session_median: Millis,
    /// Sigma of the length of sessions.
    pub session_sigma: f64,
    /// Chance that a session is in the person's day (8 to 24 o'clock), and not at any hour.
    pub by_day: f64,
    /// Chance that a person goes away on a given day…
    pub away: f64,
    /// …for so long at most.
    pub away_most: Millis,
    /// Chance that an absence is a machine asleep, and not a program that is stopped.
    pub asleep: f64,
    /// Mean time between two outages of a machine that is always on.
    pub outage_every: Millis,
    /// Longest outage.
    pub outage_most: Millis,

    /// How many times a part of the network is cut off.
    pub partitions: usize,
    /// Share of the peers that is cut off then.
    pub cut_off: f64,
    /// How long it is cut off, at least and at most.
    pub partition_length: (Millis, Millis),
    /// When everyone's network reconnects at once, as a share of the duration.
    pub reconnect_at: f64,
    /// Within which time all notice (`on-change-network-strict` looks once a second).
    pub reconnect_noticed: Millis,

    /// Median of the round-trip times; log-normal.
    pub round_trip_median: Millis,
    /// Sigma of the round-trip times.
    pub round_trip_sigma: f64,
    /// Round trips until a dial is through: one for tcp, two for the secret handshake.
    pub round_trips_of_a_dial: u64,
    /// A link over which nothing comes is given up after this time (`timers.inactivity` of secret-stack and sbot).
    pub inactivity: Millis,

    /// Messages published a day, by all together.
    pub messages_a_day: usize,
    /// An author stays online for so long after it has published.
    pub author_stays: Millis,
    /// Messages are published until so long before the end, or until its last quarter if that is later.
    pub tail: Millis,
    /// A follower counts as reachable if it is online for so long after the message was published.
    pub long_enough: Millis,
    /// Messages a second that a link carries when peers catch up.
    pub catch_up_rate: u64,

    /// Whether pubs that run ssb-conn's policy hang up on the oldest callers when there are more than eight, as it does.
    pub pubs_prune: bool,
    /// How many of the pubs know an address of every peer.
    pub know_all: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            peers: 1_000,
            duration: 30 * DAY,
            seed: 1,
            pubs: 0.03,
            open_homes: 0.15,
            always_on: 0.1,
            follows_median: 7.0,
            follows_sigma: 0.8,
            follows_most: 80,
            triads: 0.5,
            follow_back: 0.5,
            blocks: 0.05,
            guest_of: 4,
            friends_pub: 0.6,
            hops: 2,
            other_pubs: 3,
            friends_address: 0.5,
            friends_addresses: 6,
            dead: 0.5,
            moved: 0.2,
            refusing: 0.25,
            heard_a_day: 0.2,
            sessions_a_day: 3.0,
            session_median: 50 * MINUTE,
            session_sigma: 1.0,
            by_day: 0.85,
            away: 0.01,
            away_most: 10 * DAY,
            asleep: 0.5,
            outage_every: 14 * DAY,
            outage_most: HOUR,
            partitions: 2,
            cut_off: 0.2,
            partition_length: (4 * HOUR, 8 * HOUR),
            reconnect_at: 0.5,
            reconnect_noticed: SECOND,
            round_trip_median: 80,
            round_trip_sigma: 0.6,
            round_trips_of_a_dial: 3,
            inactivity: 10 * MINUTE,
            messages_a_day: 2_000,
            author_stays: 15 * MINUTE,
            tail: 3 * DAY,
            long_enough: HOUR,
            catch_up_rate: 200,
            pubs_prune: false,
            know_all: 0,
        }
    }
}
