//! A blob's file, open to be read, and known to hold the blob.
//!
//! Disks and people damage files. A peer that is sent one would find out at the end only, so a file is read through before
//! its first use and remembered by what changes with its bytes.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sbot_feed::BlobId;
use sha2::{Digest, Sha256};

use crate::error::StoreError;

/// Files that are remembered to be right, some 100 bytes each. Beyond it all are forgotten, and read through again.
const MAX_REMEMBERED: usize = 64 * 1024;

/// Bytes read at a time to check a file.
const STEP: usize = 256 * 1024;

/// What changes when a file's bytes do: inode, length, and when it was written, in ns.
type FileState = (u64, u64, i64, i64);

fn state_of(meta: &Metadata) -> FileState {
    (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

/// Files that were read through, or written by us.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashMap<BlobId, FileState>>);

impl Verified {
    pub(crate) fn remember(&self, id: BlobId, meta: &Metadata) {
        let mut known = self.0.lock();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(id, state_of(meta));
    }

    fn knows(&self, id: &BlobId, meta: &Metadata) -> bool {
        self.0.lock().get(id) == Some(&state_of(meta))
    }
}

/// A blob's file. It can be read on when the blob is deleted meanwhile.
#[derive(Debug)]
pub struct BlobFile {
    id: BlobId,
    file: File,
    size: u64,
}

impl BlobFile {
    pub(crate) fn open(id: BlobId, path: &Path, verified: &Verified) -> Result<Option<BlobFile>, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("can't open", path, error)),
        };
        let meta = file.metadata().map_err(|error| StoreError::io("can't look at", path, error))?;
        if !meta.is_file() {
            return Ok(None);
        }
        let blob = BlobFile { id, file, size: meta.len() };
        if !verified.knows(&id, &meta) {
            if blob.hash()? != id {
                blob.delete(path);
                return Err(StoreError::BlobDamaged(id));
            }
            verified.remember(id, &meta);
        }
        Ok(Some(blob))
    }

    /// Deletes the file, unless another one has taken its place.
    fn delete(&self, path: &Path) {
        let inode = |meta: io::Result<Metadata>| meta.map(|meta| meta.ino()).ok();
        if inode(self.file.metadata()) == inode(fs::metadata(path)) {
            // If it can't be deleted it is found damaged again.
            let _ = fs::remove_file(path);
        }
    }

    fn hash(&self) -> Result<BlobId, StoreError> {
        let (mut hash, mut at, mut buffer) = (Sha256::new(), 0, vec![0; STEP]);
        loop {
            match self.file.read_at(&mut buffer, at) {
                Ok(0) => return Ok(BlobId(hash.finalize().into())),
                Ok(count) => {
                    hash.update(&buffer[..count]);
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.cant_read(source)),
            }
        }
    }

    fn cant_read(&self, source: io::Error) -> StoreError {
        StoreError::io("can't read the blob", Path::new(&self.id.to_string()), source)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads a range of it, which must lie within it, into `room`, whatever that held. Blocks; ask for no more than should
    /// be in memory.
    ///
    /// # Errors
    /// [`StoreError::Io`], also if the file has become shorter.
    pub fn read(&self, range: Range<u64>, mut room: BytesMut) -> Result<Bytes, StoreError> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        room.resize(length, 0);
        self.file.read_exact_at(&mut room, range.start).map_err(|source| self.cant_read(source))?;
        Ok(room.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlobStore;

    #[test]
    fn a_damaged_file_is_noticed_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path(), 1000).unwrap();
        let id = store.add(b"hello world").unwrap();
        let file = store.open_blob(&id).unwrap().unwrap();
        assert_eq!(
            (file.size(), file.read(6..11, BytesMut::from(&b"something else"[..])).unwrap()),
            (11, Bytes::from_static(b"world"))
        );
        assert!(file.read(6..12, BytesMut::new()).is_err());
        let path = dir.path().join("sha256/b9/4d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
        fs::write(&path, b"hello w0rld").unwrap();
        // Another start knows nothing of the file.
        let store = BlobStore::open(dir.path(), 1000).unwrap();
        assert!(matches!(store.open_blob(&id), Err(StoreError::BlobDamaged(damaged)) if damaged == id));
        assert!(!path.exists() && store.open_blob(&id).unwrap().is_none());
        store.add(b"hello world").unwrap();
        fs::write(&path, b"").unwrap();
        assert!(store.open_blob(&id).is_err(), "cut to nothing since it was added");
    }

    #[test]
    fn a_fetched_blob_is_stored_if_it_is_the_right_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path(), 1000).unwrap();
        let id: BlobId = "&uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=.sha256".parse().unwrap();
        for (bytes, right) in [(&b"hello world"[..], true), (b"hello w0rld", false)] {
            let mut adding = store.start().unwrap();
            adding.write(bytes).unwrap();
            assert_eq!(adding.size(), 11);
            assert_eq!(adding.finish_fetched(&id).is_ok(), right);
        }
        assert!(store.open_blob(&id).unwrap().is_some());
    }
}
