//! A peer: where it might be, how near it is, its link, and what became of earlier ones.

use serde::{Deserialize, Serialize, Serializer};

use crate::action::{AttemptId, LinkId};
use crate::route::{Kind, KnownRoute, Source};
use crate::schedule::Place;
use crate::settings::Settings;
use crate::state::Millis;

/// Who dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}

/// A link with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// How the runtime calls it.
    pub id: LinkId,
    /// Who dialed.
    pub direction: Direction,
    /// The route that was dialed, or where the peer dialed from.
    pub address: String,
    /// Since when.
    pub since: Millis,
    /// Whether we asked for its end.
    pub leaving: bool,
}

/// A dial under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name.
    pub id: AttemptId,
    /// Where to.
    pub route: String,
    /// Since when.
    pub since: Millis,
}

/// Messages or blobs on their way over a link, in whichever direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// When it began.
    pub since: Millis,
    /// When something came or went last.
    pub progress: Millis,
}

/// How long links with a peer lasted, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// How many there were.
    pub count: u32,
    /// The sum.
    #[serde(serialize_with = "as_whole")]
    pub sum: f64,
    /// The sum of squares.
    #[serde(serialize_with = "as_whole")]
    pub sum_of_squares: f64,
}

/// Writes a whole number as one: serde_json reads those exactly, and others but for their last bit.
fn as_whole<S: Serializer>(sum: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // `as` saturates.
    match *sum as u64 {
        whole if whole < u64::MAX && whole as f64 == *sum => serializer.serialize_u64(whole),
        _ => serializer.serialize_f64(*sum),
    }
}

impl Durations {
    pub(crate) fn add(&mut self, lasted: Millis) {
        let lasted = lasted as f64;
        self.count = self.count.saturating_add(1);
        self.sum += lasted;
        self.sum_of_squares += lasted * lasted;
    }
}

/// What is going on with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing.
    Disconnected,
    /// It is being dialed.
    Connecting,
    /// It is connected.
    Connected,
    /// Its link is being closed.
    Disconnecting,
}

/// How much a link with a peer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The user's own choice, or whom we follow.
    High,
    /// Whom they follow, and pubs that we were invited to.
    Medium,
    /// Strangers, and whoever has failed too often.
    Low,
    /// Not to be talked with.
    Banned,
}

impl Priority {
    /// `high`, `medium`, `low` or `banned`.
    pub fn name(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Medium => "medium",
            Priority::Low => "low",
            Priority::Banned => "banned",
        }
    }
}

/// In which order peers are dialed: class by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Class {
    /// The user waits for it.
    Asked,
    /// To be connected always.
    Kept,
    /// One of many that fill the slots.
    Candidate(Priority),
}

/// A known peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Where it might be; at most [`Settings::most_routes`].
    pub routes: Vec<KnownRoute>,
    /// Whether the user wants it remembered and always connected.
    pub long_term: bool,
    /// Whether it may be dialed without being asked for each time (`autoconnect` of ssb-conn).
    pub autoconnect: bool,
    /// What the user asked for last: to be connected, or not to be.
    pub wanted: Option<bool>,
    /// How far it is from us in the social graph: 1 for whom we follow; `None` for strangers. Not saved.
    pub hops: Option<u32>,
    /// Whether it is not to be talked with.
    pub banned: bool,
    /// The one live link.
    pub link: Option<Link>,
    /// The dials under way; at most [`Settings::most_dials_of_one`].
    pub dialing: Vec<Attempt>,
    /// What is being transferred over the link.
    pub transfer: Option<Transfer>,
    /// Until when it is expected to dial us.
    pub expected: Option<Millis>,
    /// When its status changed last.
    pub since: Millis,
    /// How often in a row all routes have failed, or the link was lost at once.
    pub failures: u32,
    /// When a link with it was up last.
    pub last_success: Option<Millis>,
    /// When it was dialed last.
    pub last_tried: Option<Millis>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// How long links lasted.
    pub durations: Durations,
    /// When it became known.
    pub known_since: Millis,
    /// Its place in the order in which peers became known.
    pub birth: u64,
    /// Whether the user waits for the dial: it goes before others, and beyond the limit of links.
    pub(crate) asked: bool,
    /// Where it waits to be dialed.
    pub(crate) place: Option<Place>,
    /// The slot that it takes while it is dialed, or was dialed and is connected.
    pub(crate) slot: Option<Kind>,
    /// When the next of its routes is tried beside those that are being dialed.
    pub(crate) stagger: Option<Millis>,
    /// When the dial lets somebody else be tried in its slot, while that lies ahead.
    pub(crate) patience: Option<Millis>,
    /// Whether it does.
    pub(crate) silent: bool,
    /// Until when it rests after a failure, as long as there is any link that we dialed.
    pub(crate) rests: Option<Millis>,
    /// When its link, if we dialed it, may make room for others of its kind.
    pub(crate) ages: Option<(Kind, Millis)>,
}

impl Peer {
    pub(crate) fn new(birth: u64, now: Millis) -> Self {
        Peer {
            routes: Vec::new(),
            long_term: false,
            autoconnect: true,
            wanted: None,
            hops: None,
            banned: false,
            link: None,
            dialing: Vec::new(),
            transfer: None,
            expected: None,
            since: now,
            failures: 0,
            last_success: None,
            last_tried: None,
            last_error: None,
            durations: Durations::default(),
            known_since: now,
            birth,
            asked: false,
            place: None,
            slot: None,
            stagger: None,
            patience: None,
            silent: false,
            rests: None,
            ages: None,
        }
    }

    /// What is going on with it.
    pub fn status(&self) -> Status {
        match &self.link {
            Some(link) if link.leaving => Status::Disconnecting,
            Some(_) => Status::Connected,
            None if self.dialing.is_empty() => Status::Disconnected,
            None => Status::Connecting,
        }
    }

    /// When it is dialed next; a time that has passed means as soon as there is room.
    pub fn next_try(&self) -> Option<Millis> {
        self.place.map(|place| place.when())
    }

    /// Whether it is dialed without the user asking each time, and held: one to be remembered, one of the settings, and
    /// one that we follow and that is on the local network. What the user said last goes before.
    pub fn is_kept_connected(&self) -> bool {
        let at = |source| self.routes.iter().any(|route| route.is_from(source));
        let followed = self.hops == Some(1);
        let kept = self.long_term || self.autoconnect && (at(Source::Seed) || followed && at(Source::Local));
        self.wanted.unwrap_or(kept)
    }

    /// How much a link with it is worth: by the user's choice and by its distance, and one step less for each row of
    /// [`Settings::demote_after`] failures.
    pub fn priority(&self, settings: &Settings) -> Priority {
        if self.banned {
            return Priority::Banned;
        }
        let invited = || self.routes.iter().any(|route| route.is_from(Source::Invite));
        let base = match self.hops {
            _ if self.is_kept_connected() => return Priority::High,
            Some(..=1) => 0,
            Some(_) => 1,
            None if invited() => 1,
            None => 2,
        };
        match base + self.failures / settings.demote_after.max(1) {
            0 => Priority::High,
            1 => Priority::Medium,
            _ => Priority::Low,
        }
    }

    /// Whether it may fill a slot.
    fn is_candidate(&self, settings: &Settings) -> bool {
        let known = self.hops.is_some();
        let far = |furthest| self.hops.is_none_or(|hops| hops > furthest);
        if settings.furthest.is_some_and(far) {
            return false;
        }
        self.autoconnect
            && self.routes.iter().flat_map(KnownRoute::sources).any(|source| match source {
                // Whom we don't follow is shown, not dialed: whoever is in the same café.
                Source::Local => false,
                source => known || source.reaches_strangers(),
            })
    }

    /// Whether and how urgently it is to be dialed.
    pub(crate) fn class(&self, settings: &Settings) -> Option<Class> {
        if self.banned || self.routes.is_empty() || self.link.is_some() || !self.dialing.is_empty() {
            return None;
        }
        match self.wanted {
            _ if self.asked => Some(Class::Asked),
            Some(false) => None,
            _ if self.is_kept_connected() => Some(Class::Kept),
            _ if self.is_candidate(settings) => Some(Class::Candidate(self.priority(settings))),
            _ => None,
        }
    }

    /// Whether dialing it is likely to lead to it: it has been reached, and has not failed since.
    pub(crate) fn is_proven(&self) -> bool {
        self.last_success.is_some() && self.failures == 0
    }

    /// The route to try next: the best of those that were not tried since the last pause, and of equal ones the one that
    /// worked last, then the one that has been known longest.
    pub(crate) fn next_route(&self) -> Option<&KnownRoute> {
        let untried = self.routes.iter().filter(|route| !route.tried);
        untried.min_by_key(|route| (route.rank(), std::cmp::Reverse(route.last_success)))
    }

    /// Whether something was transferred over the link not long ago.
    pub(crate) fn is_busy(&self, now: Millis, settings: &Settings) -> bool {
        self.transfer.is_some_and(|transfer| now.saturating_sub(transfer.progress) < settings.stalled_after)
    }

    /// Whether it would be missed.
    pub(crate) fn is_valued(&self) -> bool {
        self.is_kept_connected() || self.long_term || self.banned || self.link.is_some() || !self.dialing.is_empty()
    }

    /// How much its link is worth beside others of those who dialed us; the least is dropped first.
    pub(crate) fn usefulness(&self, now: Millis, settings: &Settings) -> (bool, std::cmp::Reverse<u32>, bool) {
        let hops = self.hops.unwrap_or(u32::MAX);
        (self.is_kept_connected(), std::cmp::Reverse(hops), self.is_busy(now, settings))
    }
}
