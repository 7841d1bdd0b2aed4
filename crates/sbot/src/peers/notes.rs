//! What clients say of addresses: the data that they give with `conn.remember`, `conn.stage` and `conn.connect`.
//!
//! The peer manager knows what decides whom to dial; the rest (`type`, `name`, `room`, whatever an application likes) is
//! only kept here and shown again. Only the owner can add to it. No IO: the runtime saves [`Notes::saved`].
//!
//! Source: ssb-conn-db 1.0, ssb-conn-staging 1.0 and ssb-conn-hub 1.2, which keep any object with each address.

use std::collections::{BTreeMap, HashSet};

use sbot_peer_manager::{Millis, State, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Addresses with a note in each pool: as many as peers are known.
pub(super) const MOST_NOTES: usize = 10_000;

/// Bytes of a note as JSON: applications keep a name, a type and a room.
pub(super) const MAX_NOTE: usize = 4096;

/// The data of an address.
pub(super) type Data = Map<String, Value>;

/// What was said of one address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The data that a client gave.
    pub(super) data: Data,
    /// When it was said first.
    pub(super) birth: Millis,
    /// When it was said last.
    pub(super) updated: Millis,
}

/// Why a note isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoteError {
    /// It is longer than [`MAX_NOTE`].
    #[error("the data of an address may be {MAX_NOTE} bytes of JSON at most")]
    TooLong,
    /// There are [`MOST_NOTES`].
    #[error("there are data of {MOST_NOTES} addresses already; forget some first")]
    TooMany,
}

/// The notes of one pool, by address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Pool(BTreeMap<String, Note>);

impl Pool {
    /// Adds data to what is known of an address, field by field. Answers whether nothing was known.
    ///
    /// # Errors
    /// [`NoteError`]; then nothing has changed.
    pub(super) fn add(&mut self, address: &str, data: Data, now: Millis) -> Result<bool, NoteError> {
        let known = self.0.get(address);
        if known.is_none() && self.0.len() >= MOST_NOTES {
            return Err(NoteError::TooMany);
        }
        let new = known.is_none();
        let mut note = known.cloned().unwrap_or_else(|| Note { birth: now, ..Note::default() });
        note.data.extend(data);
        note.updated = now;
        if serde_json::to_vec(&note.data).map_or(true, |text| text.len() > MAX_NOTE) {
            return Err(NoteError::TooLong);
        }
        self.0.insert(address.to_owned(), note);
        Ok(new)
    }

    /// What is known of an address.
    pub(super) fn get(&self, address: &str) -> Option<&Note> {
        self.0.get(address)
    }

    /// Forgets an address; answers whether it was known.
    pub(super) fn remove(&mut self, address: &str) -> bool {
        self.0.remove(address).is_some()
    }

    /// Forgets the addresses that aren't among these.
    fn keep(&mut self, known: &HashSet<&str>) {
        self.0.retain(|address, _| known.contains(address.as_str()));
    }
}

/// All notes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Of remembered addresses (`conn.remember`); saved.
    pub(super) remembered: Pool,
    /// Of staged ones (`conn.stage`).
    pub(super) staged: Pool,
    /// Of those dialed by `conn.connect`, while they are connected.
    pub(super) dialed: Pool,
}

impl Notes {
    /// The notes that were saved.
    ///
    /// # Errors
    /// If that is none of [`Notes::saved`].
    pub(super) fn restore(saved: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self { remembered: serde_json::from_slice(saved)?, ..Self::default() })
    }

    /// Whether a pool takes no new address.
    pub(super) fn are_full(&self) -> bool {
        [&self.remembered, &self.staged, &self.dialed].iter().any(|pool| pool.0.len() >= MOST_NOTES)
    }

    /// Forgets what was said of addresses that nobody knows any more, and of dials that are over.
    pub(super) fn tidy(&mut self, state: &State) {
        let known = || state.peers().map(|(_, peer)| peer);
        let routes = known().flat_map(|peer| &peer.routes).map(|route| route.address.as_str()).collect();
        self.remembered.keep(&routes);
        self.staged.keep(&routes);
        let live = known().filter(|peer| peer.status() != Status::Disconnected);
        let dialed = live.flat_map(|peer| &peer.routes).map(|route| route.address.as_str()).collect();
        self.dialed.keep(&dialed);
    }

    /// What is to be kept over a restart.
    ///
    /// # Errors
    /// None that can happen: maps of texts are JSON.
    pub(super) fn saved(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.remembered)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: &Value) -> Data {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn later_data_replace_earlier_ones_field_by_field() {
        let mut pool = Pool::default();
        assert_eq!(pool.add("a", data(&json!({"type": "pub", "name": "old"})), 1), Ok(true));
        assert_eq!(pool.add("a", data(&json!({"name": "new"})), 2), Ok(false));
        let note = pool.get("a").unwrap();
        assert_eq!((&note.data, note.birth, note.updated), (&data(&json!({"type": "pub", "name": "new"})), 1, 2));
        assert!(pool.remove("a") && !pool.remove("a"));
    }

    #[test]
    fn notes_are_bounded_and_a_refused_one_changes_nothing() {
        let mut pool = Pool::default();
        pool.add("a", data(&json!({"name": "x"})), 1).unwrap();
        let long = data(&json!({"name": "x".repeat(MAX_NOTE)}));
        assert_eq!(pool.add("a", long, 2), Err(NoteError::TooLong));
        assert_eq!(pool.get("a").unwrap().updated, 1);
        for number in 1..MOST_NOTES {
            pool.add(&number.to_string(), Data::new(), 1).unwrap();
        }
        assert_eq!(pool.add("one more", Data::new(), 2), Err(NoteError::TooMany));
        assert_eq!(pool.add("a", Data::new(), 2), Ok(false));
    }

    #[test]
    fn only_notes_of_remembered_addresses_are_saved() {
        let mut notes = Notes::default();
        notes.remembered.add("a", data(&json!({"type": "room"})), 1).unwrap();
        notes.staged.add("b", Data::new(), 1).unwrap();
        let again = Notes::restore(&notes.saved().unwrap()).unwrap();
        assert_eq!(again.remembered, notes.remembered);
        assert!(again.staged.get("b").is_none());
        assert!(Notes::restore(b"[]").is_err());
    }
}
