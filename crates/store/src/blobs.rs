//! Blobs on disk, by their hash.
//!
//! A blob's bytes lie in `sha256/AA/REST`, with its hash in hex; while they are written, in `tmp/`, which is emptied at
//! start. All calls block on the disk.
//!
//! Source: multiblob `index.js`, as ssb-blobs uses it (`create.js`), so that either finds what the other has stored.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sbot_feed::BlobId;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;

use crate::blob_file::{BlobFile, Verified};
use crate::error::StoreError;

/// Additions that a slow subscriber may be behind before it misses some.
const BACKLOG: usize = 1024;

/// Most bytes of one answer of [`BlobStore::get`].
const MAX_READ: u64 = 4 << 20;

/// Most bytes that are written at once, up to a multiple of as many in the file. The system keeps what is written at once
/// in contiguous memory. Of that it has little where a virtual machine's host takes back free memory in pieces of 128 KiB:
/// it has to be fetched again, which takes eight times as long as writing.
const STEP: u64 = 64 * 1024;

/// A blob that is here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlobMeta {
    /// Its id.
    pub id: BlobId,
    /// Bytes.
    pub size: u64,
    /// When its file was last changed, in ms since 1970.
    pub modified: f64,
}

/// The blobs. Clones are the same store.
#[derive(Debug, Clone)]
pub struct BlobStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Longest blob, in bytes.
    max: u64,
    next: AtomicU64,
    added: broadcast::Sender<BlobMeta>,
    verified: Verified,
}

impl BlobStore {
    /// Opens the directory, or makes it. Blobs of more than `max` bytes are refused.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(dir: &Path, max: u64) -> Result<BlobStore, StoreError> {
        let tmp = dir.join("tmp");
        match fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("can't empty", &tmp, error));
            }
            _ => {}
        }
        fs::create_dir_all(&tmp).map_err(|error| StoreError::io("can't make", &tmp, error))?;
        let (added, _) = broadcast::channel(BACKLOG);
        let (dir, next) = (dir.to_owned(), AtomicU64::new(0));
        Ok(BlobStore { inner: Arc::new(Inner { dir, max, next, added, verified: Verified::default() }) })
    }

    /// Where a blob's bytes lie.
    fn path(&self, id: &BlobId) -> PathBuf {
        let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let (first, rest) = hex.split_at(2);
        self.inner.dir.join("sha256").join(first).join(rest)
    }

    /// Begins to add a blob.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn start(&self) -> Result<Adding, StoreError> {
        self.start_with_limit(self.inner.max)
    }

    /// Begins to add a blob of at most `max` bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn start_with_limit(&self, max: u64) -> Result<Adding, StoreError> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.dir.join("tmp").join(format!("{}-{number}", std::process::id()));
        let file = File::create_new(&path).map_err(|error| StoreError::io("can't make", &path, error))?;
        let max = max.min(self.inner.max);
        Ok(Adding { store: self.clone(), file, path, hash: Sha256::new(), size: 0, max, moved: false })
    }

    /// Adds a blob that is in memory.
    ///
    /// # Errors
    /// As [`Adding::write`] and [`Adding::finish`].
    pub fn add(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let mut adding = self.start()?;
        adding.write(bytes)?;
        adding.finish(None)
    }

    /// Whether a blob is here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.meta(id)?.is_some())
    }

    /// A blob's length in bytes; `None` if it isn't here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn size(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        Ok(self.meta(id)?.map(|meta| meta.size))
    }

    /// What is known of a blob; `None` if it isn't here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn meta(&self, id: &BlobId) -> Result<Option<BlobMeta>, StoreError> {
        let path = self.path(id);
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => Ok(Some(meta_of(*id, &found))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("can't look at", &path, error)),
        }
    }

    /// Bytes of a blob; `None` if it isn't here. A range that goes beyond its end is cut, and so is one of more than 4 MiB:
    /// ask again from where the answer ends.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get(&self, id: &BlobId, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(id);
        let cant_read = |error| StoreError::io("can't read", &path, error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("can't open", &path, error)),
        };
        let size = file.metadata().map_err(cant_read)?.len();
        let length = range.end.min(size).saturating_sub(range.start).min(MAX_READ);
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, range.start).map_err(cant_read)?;
        Ok(Some(bytes.into()))
    }

    /// Opens a blob whose bytes are those of its name; `None` if it isn't here. They are read through for that once for
    /// each state of the file, which its length and times tell; a blob that was added since the start isn't.
    ///
    /// # Errors
    /// [`StoreError::BlobDamaged`] if they aren't: the file is deleted then. [`StoreError::Io`].
    pub fn open_blob(&self, id: &BlobId) -> Result<Option<BlobFile>, StoreError> {
        BlobFile::open(*id, &self.path(id), &self.inner.verified)
    }

    /// All blobs, by id in hex.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn ls(&self) -> Result<Vec<BlobMeta>, StoreError> {
        let mut found = Vec::new();
        let root = self.inner.dir.join("sha256");
        for first in names(&root)? {
            let dir = root.join(&first);
            if first.len() != 2 || !dir.is_dir() {
                continue;
            }
            for rest in names(&dir)? {
                if let Some(id) = from_hex(&format!("{first}{rest}")) {
                    // One that was just deleted is none.
                    found.extend(self.meta(&id)?);
                }
            }
        }
        Ok(found)
    }

    /// Deletes a blob; false if it wasn't here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn rm(&self, id: &BlobId) -> Result<bool, StoreError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("can't delete", &path, error)),
        }
    }

    /// Tells of each blob that is added from now on. Who is more than 1,024 behind misses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<BlobMeta> {
        self.inner.added.subscribe()
    }
}

fn meta_of(id: BlobId, found: &fs::Metadata) -> BlobMeta {
    let modified = found.ctime() as f64 * 1000.0 + found.ctime_nsec() as f64 / 1_000_000.0;
    BlobMeta { id, size: found.len(), modified }
}

fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("can't look into", dir, error)),
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn from_hex(hex: &str) -> Option<BlobId> {
    let digits: Option<Vec<u8>> = hex.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    let mut id = [0; 32];
    for (byte, pair) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(BlobId(id))
}

/// A blob that is being added. Dropped before [`Adding::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Adding {
    store: BlobStore,
    file: File,
    path: PathBuf,
    hash: Sha256,
    size: u64,
    max: u64,
    moved: bool,
}

impl Adding {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`StoreError::BlobTooLong`]: nothing was added. [`StoreError::Io`]: some of it may have been, so it can only be
    /// dropped.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_many([bytes])
    }

    /// Adds all of `parts` at the end, in few calls to the system.
    ///
    /// # Errors
    /// As [`Adding::write`].
    pub fn write_many<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<(), StoreError> {
        let mut parts: Vec<IoSlice<'_>> = parts.into_iter().map(IoSlice::new).collect();
        let size = self.size + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if size > self.max {
            return Err(StoreError::BlobTooLong { limit: self.max });
        }
        parts.iter().for_each(|part| self.hash.update(&part[..]));
        self.write_parts(&mut parts).map_err(|error| StoreError::io("can't write", &self.path, error))?;
        self.size = size;
        Ok(())
    }

    fn write_parts(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        let mut at = self.size;
        while !parts.is_empty() {
            let mut room = (STEP - at % STEP) as usize;
            let step = parts.iter().map_while(|part| {
                let now = part.len().min(room);
                room -= now;
                (now > 0).then(|| IoSlice::new(&part[..now]))
            });
            match self.file.write_vectored(&step.collect::<Vec<_>>()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    at += count as u64;
                    IoSlice::advance_slices(&mut parts, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Stores the blob under its hash, on disk before this answers, and tells the subscribers.
    ///
    /// # Errors
    /// [`StoreError::BlobMismatch`] if it isn't what was `expected`, [`StoreError::Io`]. Then nothing is stored.
    pub fn finish(self, expected: Option<&BlobId>) -> Result<BlobId, StoreError> {
        self.store_as(expected, true)
    }

    /// As [`Adding::finish`], without waiting for the disk if it wasn't here: for what can be fetched again. A file that a
    /// power failure leaves unwritten is noticed by [`BlobStore::open_blob`].
    ///
    /// # Errors
    /// As [`Adding::finish`].
    pub fn finish_fetched(self, expected: &BlobId) -> Result<BlobId, StoreError> {
        self.store_as(Some(expected), false)
    }

    fn store_as(mut self, expected: Option<&BlobId>, sync: bool) -> Result<BlobId, StoreError> {
        let found = BlobId(std::mem::take(&mut self.hash).finalize().into());
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(StoreError::BlobMismatch { expected: *expected, found });
        }
        let path = self.store.path(&found);
        let cant_store = |error| StoreError::io("can't store", &path, error);
        // The file that this one replaces may be on the disk already.
        let sync = sync || path.exists();
        if sync {
            self.file.sync_data().map_err(cant_store)?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(cant_store)?;
            fs::rename(&self.path, &path).map_err(cant_store)?;
            self.moved = true;
            if sync {
                File::open(parent).and_then(|dir| dir.sync_all()).map_err(cant_store)?;
            }
        }
        let meta = self.file.metadata().map_err(cant_store)?;
        self.store.inner.verified.remember(found, &meta);
        // Nobody listening is no error.
        let _ = self.store.inner.added.send(meta_of(found, &meta));
        Ok(found)
    }
}

impl Drop for Adding {
    fn drop(&mut self) {
        if !self.moved {
            // The next start empties the directory anyway.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(&dir.path().join("blobs"), 1000).unwrap();
        (dir, store)
    }

    fn left_over(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count()
    }

    #[test]
    fn a_blob_lies_where_ssb_blobs_looks_for_it() {
        let (dir, store) = store();
        let mut added = store.subscribe();
        let mut adding = store.start().unwrap();
        adding.write(b"he").unwrap();
        adding.write_many([&b""[..], b"llo ", b"", b"wor", b"ld", b""]).unwrap();
        adding.write_many([]).unwrap();
        let id = adding.finish(None).unwrap();
        assert_eq!(id.to_string(), "&uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=.sha256");
        let path = "blobs/sha256/b9/4d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
        assert_eq!(fs::read(dir.path().join(path)).unwrap(), b"hello world");
        assert_eq!(added.try_recv().unwrap(), store.meta(&id).unwrap().unwrap());
        assert_eq!(store.ls().unwrap(), [store.meta(&id).unwrap().unwrap()]);
        assert_eq!(store.size(&id).unwrap(), Some(11));
        assert_eq!(store.get(&id, 6..100).unwrap().unwrap(), &b"world"[..]);
        assert_eq!(store.get(&id, 50..100).unwrap().unwrap(), &b""[..]);
        assert!(store.rm(&id).unwrap() && !store.rm(&id).unwrap() && !store.has(&id).unwrap());
        assert_eq!(store.get(&id, 0..9).unwrap(), None);
        assert_eq!(left_over(&dir), 0);
    }

    #[test]
    fn parts_of_any_size_are_written_one_behind_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path(), 1 << 20).unwrap();
        let step = usize::try_from(STEP).unwrap();
        let parts: Vec<Vec<u8>> = [1, step - 1, 0, step, step + 1, 0, 0, 3 * step, 5, 7]
            .iter()
            .zip(1..)
            .map(|(size, n)| vec![n; *size])
            .collect();
        let mut adding = store.start().unwrap();
        for parts in [&parts[..3], &parts[3..4], &parts[4..]] {
            adding.write_many(parts.iter().map(|part| &part[..])).unwrap();
        }
        let (size, id) = (adding.size(), adding.finish(None).unwrap());
        assert_eq!(store.get(&id, 0..u64::MAX).unwrap().unwrap(), parts.concat());
        assert_eq!((size, id), (parts.concat().len() as u64, BlobId(Sha256::digest(parts.concat()).into())));
    }

    #[test]
    fn a_wrong_or_too_long_or_unfinished_blob_leaves_nothing() {
        let (dir, store) = store();
        let mut adding = store.start().unwrap();
        adding.write(b"x").unwrap();
        let wrong = BlobId([1; 32]);
        assert!(matches!(adding.finish(Some(&wrong)), Err(StoreError::BlobMismatch { .. })));
        let mut adding = store.start_with_limit(10).unwrap();
        assert!(matches!(adding.write_many([&[0; 6][..], &[0; 5]]), Err(StoreError::BlobTooLong { limit: 10 })));
        drop(adding);
        assert!(matches!(store.add(&[0; 1001]), Err(StoreError::BlobTooLong { limit: 1000 })));
        assert_eq!((left_over(&dir), store.ls().unwrap().len()), (0, 0));
        std::mem::forget(store.start().unwrap());
        assert_eq!(left_over(&dir), 1);
        BlobStore::open(&dir.path().join("blobs"), 1000).unwrap();
        assert_eq!(left_over(&dir), 0);
    }
}
