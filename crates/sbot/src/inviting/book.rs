//! The book of invites that we gave out: who may still redeem which.
//!
//! An invite is known by the key of its guest, which its seed makes. It may be used so many times, and perhaps only until
//! some time. Each use makes us follow one feed. Between the use and the follow the feed is pending: should the node stop
//! there, the same feed may try again and is not counted twice.
//!
//! No IO, no clock: what changes comes back to be saved.
//!
//! Source: ssb-invite 2.1 `index.js` (`create`, `use`).

use std::collections::{BTreeMap, BTreeSet};

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most invites in the book. Each takes some hundred bytes; used-up ones make room first.
pub(crate) const MOST_INVITES: usize = 100_000;

/// How many of those who used an invite are remembered with it: for the owner to look up, nothing depends on it.
const MOST_USERS: usize = 100;

/// An invite that we gave out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Invite {
    /// How often it may be used.
    total: u64,
    /// How often it was.
    used: u64,
    /// What to say in the follow of whoever uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Value>,
    /// When it was made, in ms since 1970.
    created: u64,
    /// From when on it can't be used any more, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    /// Whose use is counted and whose follow isn't on disk yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pending: BTreeSet<FeedId>,
    /// Who was followed for it, at most [`MOST_USERS`], the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    users: Vec<FeedId>,
}

impl Invite {
    /// An invite for `total` uses, made at `now`.
    pub(crate) fn new(total: u64, note: Option<Value>, expires: Option<u64>, now: u64) -> Self {
        Self { total, used: 0, note, created: now, expires, pending: BTreeSet::new(), users: Vec::new() }
    }

    /// What to say in the follow of whoever uses it.
    pub(crate) fn note(&self) -> Option<&Value> {
        self.note.as_ref()
    }

    /// Whether nobody new can use it at `now`.
    fn is_over(&self, now: u64) -> bool {
        self.used >= self.total || self.expires.is_some_and(|expires| now >= expires)
    }
}

/// Why an invite can't be made or used; the words of ssb-invite where it has any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The caller's key isn't that of an invite.
    #[error("Key not found in database [{0}]")]
    Unknown(FeedId),
    /// It was used as often as it may be, or its time is over.
    #[error("invite has expired")]
    Over,
    /// The book is full of invites that can still be used.
    #[error("there are {MOST_INVITES} invites already that can still be used")]
    Full,
}

/// All invites that we gave out.
#[derive(Debug, Default)]
pub(crate) struct Book {
    invites: BTreeMap<FeedId, Invite>,
}

impl Book {
    /// The book as it was saved.
    pub(crate) fn new(invites: impl IntoIterator<Item = (FeedId, Invite)>) -> Self {
        Self { invites: invites.into_iter().take(MOST_INVITES).collect() }
    }

    /// Whether this is the key of an invite, used up or not.
    pub(crate) fn knows(&self, guest: &FeedId) -> bool {
        self.invites.contains_key(guest)
    }

    /// Takes in a new invite. Answers which ones went out of the book to make room.
    ///
    /// # Errors
    /// [`Refusal::Full`].
    pub(crate) fn add(&mut self, guest: FeedId, invite: Invite, now: u64) -> Result<Vec<FeedId>, Refusal> {
        let mut forgotten = Vec::new();
        if self.invites.len() >= MOST_INVITES {
            let over = self.invites.iter().filter(|(_, old)| old.is_over(now) && old.pending.is_empty());
            forgotten.extend(over.map(|(guest, _)| *guest));
            if forgotten.is_empty() {
                return Err(Refusal::Full);
            }
            for guest in &forgotten {
                self.invites.remove(guest);
            }
        }
        self.invites.insert(guest, invite);
        Ok(forgotten)
    }

    /// Takes an invite out again that could not be saved.
    pub(crate) fn remove(&mut self, guest: &FeedId) {
        self.invites.remove(guest);
    }

    /// Counts a use by `feed`, unless it is counted and pending from before. Answers the invite, to be saved.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] and [`Refusal::Over`].
    pub(crate) fn begin(&mut self, guest: &FeedId, feed: FeedId, now: u64) -> Result<Invite, Refusal> {
        let invite = self.invites.get_mut(guest).ok_or(Refusal::Unknown(*guest))?;
        if !invite.pending.contains(&feed) {
            if invite.is_over(now) {
                return Err(Refusal::Over);
            }
            invite.used += 1;
            invite.pending.insert(feed);
        }
        Ok(invite.clone())
    }

    /// We follow `feed`: the use is done. Answers the invite, to be saved, if that is news.
    pub(crate) fn followed(&mut self, guest: &FeedId, feed: &FeedId) -> Option<Invite> {
        let invite = self.invites.get_mut(guest)?;
        if !invite.pending.remove(feed) {
            return None;
        }
        if invite.users.len() >= MOST_USERS {
            invite.users.remove(0);
        }
        invite.users.push(*feed);
        Some(invite.clone())
    }

    /// We could not follow `feed`: the use is given back. Answers the invite, to be saved, if that is news.
    pub(crate) fn give_back(&mut self, guest: &FeedId, feed: &FeedId) -> Option<Invite> {
        let invite = self.invites.get_mut(guest)?;
        if !invite.pending.remove(feed) {
            return None;
        }
        invite.used = invite.used.saturating_sub(1);
        Some(invite.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUEST: FeedId = FeedId([9; 32]);

    fn feed(number: u8) -> FeedId {
        FeedId([number; 32])
    }

    fn book(total: u64, expires: Option<u64>) -> Book {
        Book::new([(GUEST, Invite::new(total, None, expires, 0))])
    }

    fn used(book: &Book) -> u64 {
        book.invites[&GUEST].used
    }

    #[test]
    fn an_invite_is_used_as_often_as_it_says_and_no_more() {
        let mut book = book(2, None);
        for number in [1, 2] {
            book.begin(&GUEST, feed(number), 1).unwrap();
            assert!(book.followed(&GUEST, &feed(number)).is_some());
        }
        assert_eq!(book.begin(&GUEST, feed(3), 1), Err(Refusal::Over));
        assert_eq!(book.invites[&GUEST].users, [feed(1), feed(2)]);
        assert_eq!(book.begin(&feed(7), feed(3), 1), Err(Refusal::Unknown(feed(7))));
    }

    #[test]
    fn an_invite_ends_at_its_time() {
        let mut book = book(2, Some(100));
        assert!(book.begin(&GUEST, feed(1), 99).is_ok());
        assert_eq!(book.begin(&GUEST, feed(2), 100), Err(Refusal::Over));
    }

    #[test]
    fn who_is_counted_and_not_yet_followed_may_try_again_and_is_not_counted_twice() {
        let mut before = book(1, Some(100));
        let saved = serde_json::to_vec(&before.begin(&GUEST, feed(1), 1).unwrap()).unwrap();
        let mut after = Book::new([(GUEST, serde_json::from_slice(&saved).unwrap())]);
        assert!(after.begin(&GUEST, feed(1), 200).is_ok());
        assert_eq!(used(&after), 1);
        assert_eq!(after.begin(&GUEST, feed(2), 1), Err(Refusal::Over));
        assert!(after.followed(&GUEST, &feed(1)).is_some());
        assert_eq!(after.begin(&GUEST, feed(1), 1), Err(Refusal::Over));
    }

    #[test]
    fn a_use_that_led_to_nothing_is_given_back_once() {
        let mut book = book(1, None);
        book.begin(&GUEST, feed(1), 1).unwrap();
        assert!(book.give_back(&GUEST, &feed(1)).is_some());
        assert!(book.give_back(&GUEST, &feed(1)).is_none());
        assert_eq!(used(&book), 0);
        assert!(book.begin(&GUEST, feed(2), 1).is_ok());
    }

    #[test]
    fn a_full_book_makes_room_by_forgetting_what_is_over_and_nothing_else() {
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            FeedId(key)
        };
        let mut book = Book::default();
        for number in 0..MOST_INVITES {
            let expires = (number < 2).then_some(10);
            assert!(book.add(key(number), Invite::new(1, None, expires, 0), 0).unwrap().is_empty());
        }
        assert_eq!(book.add(GUEST, Invite::new(1, None, None, 0), 9), Err(Refusal::Full));
        book.begin(&key(0), feed(1), 9).unwrap();
        assert_eq!(book.add(GUEST, Invite::new(1, None, None, 0), 10).unwrap(), [key(1)]);
        assert!(book.knows(&GUEST) && book.knows(&key(0)) && !book.knows(&key(1)));
    }

    proptest! {
        #[test]
        fn never_more_follows_than_uses(
            total in 0_u64..5, expires in prop::option::of(0_u64..20),
            steps in prop::collection::vec((0_u8..4, 0_u8..6, 0_u64..20), 0..60),
        ) {
            let mut book = book(total, expires);
            let mut followed = 0;
            for (what, number, now) in steps {
                match what {
                    0 | 1 => {
                        let was = book.invites[&GUEST].clone();
                        if book.begin(&GUEST, feed(number), now).is_ok() {
                            prop_assert!(was.pending.contains(&feed(number)) || !was.is_over(now));
                        }
                    }
                    2 => followed += u64::from(book.followed(&GUEST, &feed(number)).is_some()),
                    _ => drop(book.give_back(&GUEST, &feed(number))),
                }
                let invite = &book.invites[&GUEST];
                prop_assert_eq!(invite.used, followed + invite.pending.len() as u64);
                prop_assert!(invite.used <= total);
            }
        }
    }
}
