//! Feeds that have forked: their author signed two messages for one place.
//!
//! What came first stays and is served; the other branch is refused. The list is kept in a small file beside the log, as
//! one line of JSON a feed. Losing it loses no message.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sbot_feed::{FeedId, MsgId};
use serde_json::{Value, json};

use crate::error::StoreError;

/// Most forked feeds that are listed, one fork of each.
const MAX_FORKS: usize = 10_000;

/// Two messages of one author for the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The feed.
    pub author: FeedId,
    /// The place.
    pub sequence: u64,
    /// The message that came first and stays.
    pub ours: MsgId,
    /// The other one.
    pub theirs: MsgId,
}

pub(crate) struct Forks {
    path: PathBuf,
    known: Vec<Fork>,
}

impl Forks {
    pub(crate) fn load(path: &Path) -> Forks {
        let text = fs::read_to_string(path).unwrap_or_default();
        Forks { path: path.to_owned(), known: text.lines().filter_map(parse).take(MAX_FORKS).collect() }
    }

    pub(crate) fn list(&self) -> Vec<Fork> {
        self.known.clone()
    }

    /// Notes a fork: of each feed the earliest. Failing to write it down is told, and no harm otherwise.
    pub(crate) fn note(&mut self, fork: Fork) {
        match self.known.iter().position(|known| known.author == fork.author) {
            Some(at) if self.known[at].sequence <= fork.sequence => return,
            Some(at) => self.known[at] = fork,
            None if self.known.len() < MAX_FORKS => self.known.push(fork),
            None => return,
        }
        tracing::warn!(author = %fork.author, sequence = fork.sequence, ours = %fork.ours, theirs = %fork.theirs,
            "a feed has forked: what came first stays, the other branch is refused");
        if let Err(error) = self.save() {
            tracing::warn!(%error, "can't write down a forked feed");
        }
    }

    fn save(&self) -> Result<(), StoreError> {
        let new = self.path.with_extension("new");
        let written = File::create(&new).and_then(|mut file| {
            let lines: String = self.known.iter().map(|fork| format!("{}\n", print(fork))).collect();
            file.write_all(lines.as_bytes())?;
            file.sync_data()?;
            fs::rename(&new, &self.path)
        });
        written.map_err(|error| StoreError::io("can't write", &self.path, error))
    }
}

fn print(fork: &Fork) -> Value {
    json!({ "author": fork.author, "sequence": fork.sequence, "ours": fork.ours, "theirs": fork.theirs })
}

fn parse(line: &str) -> Option<Fork> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| value.get(name)?.as_str();
    Some(Fork {
        author: text("author")?.parse().ok()?,
        sequence: value.get("sequence")?.as_u64()?,
        ours: text("ours")?.parse().ok()?,
        theirs: text("theirs")?.parse().ok()?,
    })
}
