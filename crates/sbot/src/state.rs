//! Small mutable state that is no log: the peer table, what each peer's EBT clock said last, and the invites given out.
//!
//! One redb file. Everything in it can be lost without losing a message: peers are found again, a peer whose notes are
//! unknown is simply told everything, and invites can be made anew.

use std::path::Path;

use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use sbot_feed::{BlobId, FeedId};

/// Peer → its EBT notes: 40 bytes each, a feed's key and the note as a little-endian i64.
const CLOCKS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("ebt_clocks");
/// Key of an invite's guest → the invite, as the book of invites writes it.
const INVITES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("invites");
/// Blob → what is remembered of it, as the blobs write it.
const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
/// Name → bytes, for what is one value: the peer manager's table.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");

const NOTE_LENGTH: usize = 40;

/// Memory that redb may use for pages: the tables are small and read at start.
const CACHE_BYTES: usize = 1 << 20;

/// The database of small state.
pub(crate) struct State {
    /// `None` once it is closed.
    database: RwLock<Option<Database>>,
}

impl State {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// If the file can't be opened or isn't ours; the caller may move it aside and start anew.
    pub(crate) fn open(path: &Path) -> Result<State, redb::Error> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let write = database.begin_write()?;
        write.open_table(CLOCKS)?;
        write.open_table(INVITES)?;
        write.open_table(BLOBS)?;
        write.open_table(VALUES)?;
        write.commit()?;
        Ok(State { database: RwLock::new(Some(database)) })
    }

    /// Closes the file, so that it can be opened again while somebody still holds this.
    pub(crate) fn close(&self) {
        *self.database.write() = None;
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        self.database.read().as_ref().map_or(Err(redb::Error::DatabaseClosed), work)
    }

    /// The notes that `peer` sent last, as saved; empty if there are none.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn clock(&self, peer: &FeedId) -> Result<Vec<(FeedId, i64)>, redb::Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(CLOCKS)?;
            let Some(bytes) = table.get(peer.as_bytes())? else { return Ok(Vec::new()) };
            Ok(bytes
                .value()
                .chunks_exact(NOTE_LENGTH)
                .filter_map(|row| {
                    let (feed, note) = row.split_first_chunk::<32>()?;
                    Some((FeedId(*feed), i64::from_le_bytes(*note.first_chunk()?)))
                })
                .collect())
        })
    }

    /// Replaces the saved notes of `peer`.
    ///
    /// # Errors
    /// If the database can't be written, on a full disk for one: what was saved before stays.
    pub(crate) fn save_clock(&self, peer: &FeedId, notes: &[(FeedId, i64)]) -> Result<(), redb::Error> {
        let mut bytes = Vec::with_capacity(notes.len() * NOTE_LENGTH);
        for (feed, note) in notes {
            bytes.extend_from_slice(feed.as_bytes());
            bytes.extend_from_slice(&note.to_le_bytes());
        }
        self.with(|database| {
            let write = database.begin_write()?;
            write.open_table(CLOCKS)?.insert(peer.as_bytes(), bytes.as_slice())?;
            Ok(write.commit()?)
        })
    }

    /// All saved invites, by the keys of their guests.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn invites(&self) -> Result<Vec<(FeedId, Vec<u8>)>, redb::Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(INVITES)?;
            let mut invites = Vec::new();
            for row in table.iter()? {
                let (key, invite) = row?;
                invites.push((FeedId(*key.value()), invite.value().to_vec()));
            }
            Ok(invites)
        })
    }

    /// Saves the invite of the guest with key `guest`, in place of what was saved, and forgets those of `forget`.
    ///
    /// # Errors
    /// If the database can't be written: all stays as it was.
    pub(crate) fn save_invite(&self, guest: &FeedId, invite: &[u8], forget: &[FeedId]) -> Result<(), redb::Error> {
        self.with(|database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(INVITES)?;
                for old in forget {
                    table.remove(old.as_bytes())?;
                }
                table.insert(guest.as_bytes(), invite)?;
            }
            Ok(write.commit()?)
        })
    }

    /// What is remembered of blobs, by their hashes.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn blob_notes(&self) -> Result<Vec<(BlobId, Vec<u8>)>, redb::Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(BLOBS)?;
            let mut notes = Vec::new();
            for row in table.iter()? {
                let (blob, note) = row?;
                notes.push((BlobId(*blob.value()), note.value().to_vec()));
            }
            Ok(notes)
        })
    }

    /// Saves what is remembered of some blobs, or forgets it.
    ///
    /// # Errors
    /// If the database can't be written: all stays as it was.
    pub(crate) fn save_blob_notes<'n>(
        &self,
        notes: impl Iterator<Item = (&'n [u8; 32], Option<&'n [u8]>)>,
    ) -> Result<(), redb::Error> {
        self.with(|database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(BLOBS)?;
                for (blob, note) in notes {
                    match note {
                        Some(note) => drop(table.insert(blob, note)?),
                        None => drop(table.remove(blob)?),
                    }
                }
            }
            Ok(write.commit()?)
        })
    }

    /// The value saved under `name`.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(VALUES)?;
            Ok(table.get(name)?.map(|value| value.value().to_vec()))
        })
    }

    /// Saves `value` under `name`.
    ///
    /// # Errors
    /// If the database can't be written: the former value stays.
    pub(crate) fn save_value(&self, name: &str, value: &[u8]) -> Result<(), redb::Error> {
        self.with(|database| {
            let write = database.begin_write()?;
            write.open_table(VALUES)?.insert(name, value)?;
            Ok(write.commit()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_back_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let notes = vec![(FeedId([1; 32]), -1), (FeedId([2; 32]), 42)];
        State::open(&path).unwrap().save_clock(&FeedId([9; 32]), &notes).unwrap();
        let state = State::open(&path).unwrap();
        assert_eq!(state.clock(&FeedId([9; 32])).unwrap(), notes);
        assert_eq!(state.clock(&FeedId([8; 32])).unwrap(), []);
    }

    #[test]
    fn a_value_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.redb")).unwrap();
        assert_eq!(state.value("peers").unwrap(), None);
        state.save_value("peers", b"longer").unwrap();
        state.save_value("peers", b"two").unwrap();
        assert_eq!(state.value("peers").unwrap().as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn invites_are_replaced_and_forgotten_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.redb")).unwrap();
        let [one, two] = [FeedId([1; 32]), FeedId([2; 32])];
        state.save_invite(&one, b"old", &[]).unwrap();
        state.save_invite(&one, b"new", &[]).unwrap();
        assert_eq!(state.invites().unwrap(), [(one, b"new".to_vec())]);
        state.save_invite(&two, b"other", &[one]).unwrap();
        assert_eq!(state.invites().unwrap(), [(two, b"other".to_vec())]);
    }

    #[test]
    fn a_closed_file_can_be_opened_again_while_somebody_holds_the_old_handle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let old = State::open(&path).unwrap();
        old.save_value("peers", b"known").unwrap();
        old.close();
        assert!(matches!(old.value("peers"), Err(redb::Error::DatabaseClosed)));
        assert_eq!(State::open(&path).unwrap().value("peers").unwrap().as_deref(), Some(&b"known"[..]));
    }
}
