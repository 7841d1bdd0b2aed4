//! What is remembered of stored blobs: which are our own, which are pinned, and when each was last used.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use sbot_feed::BlobId;

use crate::state::State as Saves;

/// The flag of a blob that a client of ours added.
const OWN: u8 = 1;
/// The flag of a blob that is never to go.
const PINNED: u8 = 2;
/// Bytes of a note on disk: flags, and the time of the last use, little-endian.
const LENGTH: usize = 9;

/// What is remembered of one blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// A client of ours added it.
    pub(crate) own: bool,
    /// It is never to go.
    pub(crate) pinned: bool,
    /// When it came or was last read, in ms since 1970.
    pub(crate) used: u64,
}

impl Kept {
    fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = if self.own { OWN } else { 0 } | if self.pinned { PINNED } else { 0 };
        bytes[1..].copy_from_slice(&self.used.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, used) = bytes.split_first()?;
        let used = u64::from_le_bytes(*used.first_chunk()?);
        Some(Self { own: flags & OWN != 0, pinned: flags & PINNED != 0, used })
    }
}

#[derive(Default)]
struct Notes {
    kept: BTreeMap<BlobId, Kept>,
    unsaved: BTreeSet<BlobId>,
}

/// What is remembered of all blobs: one note of some 50 bytes for each that is here.
#[derive(Default)]
pub(super) struct Keeping(Mutex<Notes>);

impl Keeping {
    /// What was saved. What can't be read is lost, and said.
    pub(super) fn load(saves: &Saves) -> Self {
        let saved = saves.blob_notes().unwrap_or_else(|error| {
            tracing::error!(%error, "which blobs are our own or pinned can't be read: sbot blobs gc may propose them");
            Vec::new()
        });
        let kept = saved.into_iter().filter_map(|(id, note)| Some((id, Kept::from_bytes(&note)?))).collect();
        Self(Mutex::new(Notes { kept, unsaved: BTreeSet::new() }))
    }

    pub(super) fn get(&self, id: &BlobId) -> Kept {
        self.0.lock().kept.get(id).copied().unwrap_or_default()
    }

    pub(super) fn change(&self, id: BlobId, change: impl FnOnce(&mut Kept)) {
        let mut notes = self.0.lock();
        change(notes.kept.entry(id).or_default());
        notes.unsaved.insert(id);
    }

    pub(super) fn forget(&self, id: &BlobId) {
        let mut notes = self.0.lock();
        if notes.kept.remove(id).is_some() {
            notes.unsaved.insert(*id);
        }
    }

    /// Whether something is to be saved.
    pub(super) fn has_changed(&self) -> bool {
        !self.0.lock().unsaved.is_empty()
    }

    /// Saves what has changed. Blocks.
    pub(super) fn save(&self, saves: &Saves) -> Result<(), redb::Error> {
        let changed: Vec<(BlobId, Option<[u8; LENGTH]>)> = {
            let mut notes = self.0.lock();
            let unsaved = std::mem::take(&mut notes.unsaved);
            unsaved.into_iter().map(|id| (id, notes.kept.get(&id).copied().map(Kept::to_bytes))).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        let notes = changed.iter().map(|(id, note)| (id.as_bytes(), note.as_ref().map(|note| &note[..])));
        let saved = saves.save_blob_notes(notes);
        if saved.is_err() {
            // to be tried again with the next change
            self.0.lock().unsaved.extend(changed.iter().map(|(id, _)| *id));
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_back_and_forgotten_ones_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let saves = Saves::open(&dir.path().join("state.redb")).unwrap();
        let keeping = Keeping::load(&saves);
        let [one, two] = [BlobId([1; 32]), BlobId([2; 32])];
        keeping.change(one, |kept| (kept.own, kept.used) = (true, 77));
        keeping.change(two, |kept| kept.pinned = true);
        keeping.save(&saves).unwrap();
        let again = Keeping::load(&saves);
        assert_eq!(again.get(&one), Kept { own: true, pinned: false, used: 77 });
        assert_eq!(again.get(&two), Kept { own: false, pinned: true, used: 0 });
        again.forget(&two);
        again.save(&saves).unwrap();
        assert_eq!(Keeping::load(&saves).get(&two), Kept::default());
    }
}
