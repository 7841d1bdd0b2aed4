//! Logs of signed messages, and databases made of them by the JavaScript peers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use fd_lock::RwLock;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::install::{js, script};
use crate::{End, JsPeer, Kind, Tips, cache_dir};

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Number of messages.
    pub messages: usize,
    /// Number of feeds.
    pub authors: usize,
    /// Whether some feeds block others. Which feeds two JavaScript peers then exchange depends on the order of events:
    /// leave it off where counts matter.
    pub blocks: bool,
}

/// A generated network of feeds.
pub struct Network {
    name: String,
    dir: PathBuf,
    /// The feeds. The first one follows all others.
    pub authors: Vec<String>,
    /// What every peer must end up with.
    pub tips: Tips,
    /// Number of messages.
    pub messages: u64,
}

impl Network {
    /// The network for `spec`: generated when first asked for, the same ever after.
    ///
    /// # Errors
    /// Node or the packages are missing, or the disk is full.
    pub fn get(spec: Spec) -> Result<Self> {
        let Spec { messages, authors, blocks } = spec;
        let blocks = if blocks { "on" } else { "off" };
        let version = version_of(&["generate.js", "common.js", "classic/package-lock.json"])?;
        let name = format!("log-{messages}-{authors}-{blocks}-{version}");
        let dir = cached(&name, |dir| {
            let status = script("generate.js")?
                .arg("--out")
                .arg(dir)
                .args(["--messages", &messages.to_string(), "--authors", &authors.to_string(), "--blocks", blocks])
                .stdin(Stdio::null())
                .status()?;
            ensure!(status.success(), "generate.js failed");
            Ok(())
        })?;
        let facts: Value = serde_json::from_slice(&fs::read(dir.join("facts.json"))?)?;
        Ok(Self {
            authors: serde_json::from_value(facts["authors"].clone())?,
            tips: serde_json::from_value(facts["tips"].clone())?,
            messages: facts["messages"].as_u64().context("facts.json has no messages")?,
            name,
            dir,
        })
    }

    /// The messages, one `{key, value, timestamp}` a line.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.jsonl")
    }

    /// The first author's `secret`.
    pub fn secret(&self) -> PathBuf {
        self.dir.join("secret")
    }

    /// Makes `to` a data directory of a JavaScript peer that has all messages, and an identity of its own.
    ///
    /// # Errors
    /// The peer doesn't start or doesn't take the messages.
    pub fn data_for(&self, kind: Kind, to: &Path) -> Result<()> {
        let base = if kind == Kind::Db2 { "db2" } else { "classic" };
        let lock = format!("{base}/package-lock.json");
        let name = format!("{base}-{}-{}", version_of(&[kind.script(), &lock])?, self.name);
        let kind = if kind == Kind::Db2 { Kind::Db2 } else { Kind::Classic };
        let from = cached(&name, |dir| {
            let mut peer = JsPeer::start(kind, dir, &crate::network_key()?, Some(&self.log()))?;
            ensure!(peer.total()? == self.messages, "{base} has {} messages", peer.total()?);
            peer.stop()
        })?;
        copy(&from, to)
    }
}

/// The directory `name` below the cache, made by `make` if it isn't there yet. Whoever else wants it waits.
fn cached(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let mut lock = RwLock::new(File::create(cache.join("cache.lock"))?);
    let _alone = lock.write()?;
    let done = cache.join(name);
    if !done.exists() {
        let unfinished = cache.join("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        make(&unfinished).with_context(|| format!("making {name}"))?;
        fs::rename(unfinished, &done)?;
    }
    Ok(done)
}

/// A short hash of these files in `js/`.
fn version_of(files: &[&str]) -> Result<String> {
    let js = js()?;
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(js.join(file))?);
    }
    Ok(hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect())
}

/// Copies the files below `from`; sockets and logs of standard error are left out.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() && entry.file_name() != "stderr.log" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
