//! The blobs' bytes on disk, in multiblob's layout: `sha256/aa/rest-of-the-hash-in-hex`, and `tmp` for what is still
//! coming in (multiblob `index.js`).

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use sbot_feed::BlobId;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;

use crate::error::StoreError;

/// Additions that a slow listener may be behind.
const BACKLOG: usize = 1024;

/// A blob that is here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlobMeta {
    /// Its id.
    pub id: BlobId,
    /// Bytes.
    pub size: u64,
    /// When it was added, in ms since 1970.
    pub modified: f64,
}

/// A directory of blobs. Everything blocks on the disk.
#[derive(Clone)]
pub struct BlobStore(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    max: u64,
    next: AtomicU64,
    added: broadcast::Sender<BlobMeta>,
}

impl BlobStore {
    /// Opens the directory, or makes it. Blobs may be at most `max` bytes long. What a crash left half-written is removed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(dir: &Path, max: u64) -> Result<BlobStore, StoreError> {
        let tmp = dir.join("tmp");
        // There may be none.
        let _ = fs::remove_dir_all(&tmp);
        for dir in [&tmp, &dir.join("sha256")] {
            fs::create_dir_all(dir).map_err(|error| StoreError::io("can't make", dir, error))?;
        }
        let added = broadcast::Sender::new(BACKLOG);
        Ok(BlobStore(Arc::new(Inner { dir: dir.to_owned(), max, next: AtomicU64::new(0), added })))
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.dir.join("sha256").join(&hex[..2]).join(&hex[2..])
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn start(&self) -> Result<Adding, StoreError> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let path = self.0.dir.join("tmp").join(format!("{}-{number}", std::process::id()));
        let file = File::create_new(&path).map_err(|error| StoreError::io("can't make", &path, error))?;
        Ok(Adding { store: self.clone(), file, path, hash: Sha256::new(), size: 0 })
    }

    /// Size and time of a blob; `None` if it isn't here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn meta(&self, id: &BlobId) -> Result<Option<BlobMeta>, StoreError> {
        let path = self.path(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(meta(*id, &metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("can't look at", &path, error)),
        }
    }

    /// Size of a blob in bytes; `None` if it isn't here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn size(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        Ok(self.meta(id)?.map(|meta| meta.size))
    }

    /// Some bytes of a blob, fewer at its end; `None` if it isn't here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get(&self, id: &BlobId, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("can't open", &path, error)),
        };
        let read = || {
            let end = range.end.min(file.metadata()?.len());
            let mut bytes = vec![0; end.saturating_sub(range.start) as usize];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(Some(bytes.into()))
        };
        read().map_err(|error| StoreError::io("can't read", &path, error))
    }

    /// Removes a blob; false if it wasn't here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn rm(&self, id: &BlobId) -> Result<bool, StoreError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("can't remove", &path, error)),
        }
    }

    /// All blobs, by id.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn ls(&self) -> Result<Vec<BlobMeta>, StoreError> {
        let root = self.0.dir.join("sha256");
        let mut all = Vec::new();
        let list = |dir: &Path| -> Result<Vec<fs::DirEntry>, StoreError> {
            let entries = fs::read_dir(dir).and_then(Iterator::collect);
            entries.map_err(|error| StoreError::io("can't list", dir, error))
        };
        for dir in list(&root)? {
            if !dir.path().is_dir() {
                continue;
            }
            for file in list(&dir.path())? {
                let hex = [dir.file_name(), file.file_name()].map(|name| name.to_string_lossy().into_owned()).concat();
                // Removed since, or not ours: no blob.
                if let (Some(id), Ok(metadata)) = (from_hex(&hex), file.metadata()) {
                    all.push(meta(id, &metadata));
                }
            }
        }
        all.sort_by_key(|meta| meta.id);
        Ok(all)
    }

    /// Blobs as they are added from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<BlobMeta> {
        self.0.added.subscribe()
    }
}

fn from_hex(hex: &str) -> Option<BlobId> {
    let mut id = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(BlobId(id))
}

fn meta(id: BlobId, metadata: &fs::Metadata) -> BlobMeta {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.map_or(0.0, |since| since.as_micros() as f64 / 1000.0);
    BlobMeta { id, size: metadata.len(), modified }
}

/// A blob that is coming in. Dropped unfinished, it leaves nothing.
pub struct Adding {
    store: BlobStore,
    file: File,
    path: PathBuf,
    hash: Sha256,
    size: u64,
}

impl Adding {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`StoreError::BlobTooLong`], [`StoreError::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.size += bytes.len() as u64;
        if self.size > self.store.0.max {
            return Err(StoreError::BlobTooLong { limit: self.store.0.max });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| StoreError::io("can't write", &self.path, error))
    }

    /// The blob is whole: syncs it and puts it in its place.
    ///
    /// # Errors
    /// [`StoreError::BlobMismatch`] if `expected` is another id; [`StoreError::Io`].
    pub fn finish(mut self, expected: Option<&BlobId>) -> Result<BlobId, StoreError> {
        let found = BlobId(std::mem::take(&mut self.hash).finalize().into());
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(StoreError::BlobMismatch { expected: *expected, found });
        }
        let target = self.store.path(&found);
        let placed = (|| {
            self.file.sync_all()?;
            if let Some(dir) = target.parent() {
                fs::create_dir_all(dir)?;
                fs::rename(&self.path, &target)?;
                File::open(dir)?.sync_all()?;
            }
            Ok(())
        })();
        placed.map_err(|error| StoreError::io("can't place", &target, error))?;
        if let Some(meta) = self.store.meta(&found)? {
            // Nobody may be listening.
            let _ = self.store.0.added.send(meta);
        }
        Ok(found)
    }
}

impl Drop for Adding {
    fn drop(&mut self) {
        // Gone already if it was finished.
        let _ = fs::remove_file(&self.path);
    }
}
